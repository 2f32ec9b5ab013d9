/* Every option of `quire serve` whose maximum stands in limits.h: the limit is taken, one more is
 * wrong usage, and the sentence names the option. */
#include "base/threads.h"
#include "limits.h"
#include "service/serve.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define USAGE 2
#define FAILED 1

/* The exit status and what stood on standard error; serving ends where the model is missing. */
static int serve_with(const char *option, long long value, char *said, size_t said_bytes)
{
    char number[32], path[] = "/tmp/quire-limits-XXXXXX";
    snprintf(number, sizeof number, "%lld", value);
    char *argv[] = {"serve", "--model", "/nowhere.gguf", "--listen", "127.0.0.1:0", "--log-level",
                    "none", (char *)(uintptr_t)option, number, NULL};
    int file = mkstemp(path), kept = dup(STDERR_FILENO);
    assert_true(file >= 0 && kept >= 0);
    unlink(path);
    dup2(file, STDERR_FILENO);
    int status = serve_main((int)(sizeof argv / sizeof *argv) - 1, argv);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    ssize_t n = pread(file, said, said_bytes - 1, 0);
    said[n > 0 ? n : 0] = '\0';
    close(file);
    return status;
}

static void test_serve_limits__options_at_their_limits_and_one_beyond(void **state)
{
    static const struct {
        const char *option;
        long long least, most;
    } rows[] = {
        {"--max-context", 0, CONTEXT_TOKENS_MAX}, {"--max-sequences", 1, SEQUENCES_MAX},
        {"--max-queued", 0, CALLS_MAX},           {"--max-connections", 1, CONNECTIONS_MAX},
        {"--threads", 0, TEAM_THREADS_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char said[4096], number[32];
        const char *option = rows[i].option;
        if (serve_with(option, rows[i].most, said, sizeof said) != FAILED ||
            strstr(said, "/nowhere.gguf") == NULL)
            fail_msg("%s %lld: %s", option, rows[i].most, said);
        assert_int_equal(serve_with(option, rows[i].least, said, sizeof said), FAILED);
        snprintf(number, sizeof number, "%lld", rows[i].most);
        if (serve_with(option, rows[i].most + 1, said, sizeof said) != USAGE ||
            strstr(said, option) == NULL || strstr(said, number) == NULL)
            fail_msg("%s %lld: %s", option, rows[i].most + 1, said);
        assert_int_equal(serve_with(option, rows[i].least - 1, said, sizeof said), USAGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_serve_limits__options_at_their_limits_and_one_beyond),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
