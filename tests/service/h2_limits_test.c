/* Limits of the HTTP/2 layer that h2_abuse_test does not meet: the limit passes, one more does not.
 */
#include "echo_fixture.h"
#include "h2_peer_fixture.h"

#include "limits.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define SETTINGS_ENTRY_BYTES 6
#define FRAME_HEAD_BYTES 9

static struct echo echo;

static int set_up(void **state)
{
    echo_start(&echo, NULL);
    return 0;
}

static int tear_down(void **state)
{
    echo_stop(&echo);
    return 0;
}

/* The type of the first frame that answers: an acknowledgement of SETTINGS or GOAWAY. */
static uint8_t answer_to(int fd)
{
    uint8_t bytes[4096];
    size_t n = 0, at = 0;
    for (;;) {
        for (size_t len; n - at >= FRAME_HEAD_BYTES; at += FRAME_HEAD_BYTES + len) {
            const uint8_t *frame = bytes + at;
            len = (size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2];
            bool is_ack = frame[3] == NGHTTP2_SETTINGS && (frame[4] & NGHTTP2_FLAG_ACK) != 0;
            if (is_ack || frame[3] == NGHTTP2_GOAWAY)
                return frame[3];
            if (n - at < FRAME_HEAD_BYTES + len)
                break;
        }
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        assert_true(poll(&wait, 1, 10000) > 0);
        ssize_t got = recv(fd, bytes + n, sizeof(bytes) - n, 0);
        assert_true(got > 0);
        n += (size_t)got;
    }
}

static uint8_t send_settings(uint32_t n_entries)
{
    static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const uint8_t entry[SETTINGS_ENTRY_BYTES] = {0, NGHTTP2_SETTINGS_MAX_FRAME_SIZE,
                                                        0, 0, 0x40, 0};
    uint8_t payload[(SETTINGS_ENTRIES_MAX + 1) * SETTINGS_ENTRY_BYTES], bytes[1024];
    for (uint32_t i = 0; i < n_entries; i++)
        memcpy(payload + i * SETTINGS_ENTRY_BYTES, entry, sizeof entry);
    size_t n = sizeof magic - 1;
    memcpy(bytes, magic, n);
    n += peer_raw_frame(bytes + n, NGHTTP2_SETTINGS, 0, 0, payload,
                        n_entries * SETTINGS_ENTRY_BYTES);
    int fd = peer_connect(server_address(echo.server));
    assert_true(peer_raw_send(fd, bytes, n));
    uint8_t answer = answer_to(fd);
    close(fd);
    return answer;
}

static void test_h2_limits__settings_of_the_limit_and_one_more_entry(void **state)
{
    assert_int_equal(send_settings(SETTINGS_ENTRIES_MAX), NGHTTP2_SETTINGS);
    assert_int_equal(send_settings(SETTINGS_ENTRIES_MAX + 1), NGHTTP2_GOAWAY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_h2_limits__settings_of_the_limit_and_one_more_entry,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
