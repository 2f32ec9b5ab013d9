/* Which method takes messages of which size (the transport refuses one byte more: grpc_call_test),
 * and the memory that such a message may unfold to. */
#include "base/arena.h"
#include "base/status.h"
#include "limits.h"
#include "service/call.h"
#include "service/grpc_header.h"
#include "service/service.h"
#include "service/wire.h"
#include "service/wire_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_method_limits__each_method_has_its_own(void **state)
{
    static const struct {
        const char *path;
        uint32_t bytes;
    } wanted[] = {
        {"/quire.v1.Quire/Generate", GENERATE_MESSAGE_BYTES_MAX},
        {"/quire.v1.Quire/Summarize", UPLOAD_MESSAGE_BYTES_MAX},
        {"/quire.v1.Quire/Estimate", GENERATE_MESSAGE_BYTES_MAX},
        {"/quire.v1.Quire/Tokenize", GENERATE_MESSAGE_BYTES_MAX},
        {"/quire.v1.Quire/Detokenize", GENERATE_MESSAGE_BYTES_MAX},
    };
    size_t n, n_named = 0;
    const struct method *methods = service_methods(&n);

    for (size_t i = 0; i < n; i++) {
        uint32_t bytes = SMALL_MESSAGE_BYTES_MAX; /* of every other method */
        for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
            if (strcmp(wanted[k].path, methods[i].path) == 0) {
                bytes = wanted[k].bytes;
                n_named++;
            }
        assert_int_equal(methods[i].message_bytes_max, bytes);
    }
    assert_int_equal(n_named, sizeof wanted / sizeof *wanted);
}

/* Empty chat messages: two bytes on the wire, some 270 unpacked. */
static int unpack_chats(size_t n, struct arena *arena, struct why *why)
{
    size_t bytes = 0;
    uint8_t *body = malloc(2 * n + 8);
    struct wire_generate out;
    body[bytes++] = 0x1a; /* field 3: chat */
    for (size_t left = 2 * n, more = 1; more; left >>= 7) {
        more = left >= 0x80;
        body[bytes++] = (uint8_t)((left & 0x7f) | (more ? 0x80 : 0));
    }
    for (size_t i = 0; i < n; i++) {
        body[bytes++] = 0x0a; /* field 1: a message of the chat */
        body[bytes++] = 0;
    }
    arena_init(arena, wire_arena_bytes(bytes));
    int status = wire_unpack_generate(arena, slice_of(body, bytes), &out, why);
    arena_release(arena);
    free(body);
    return status;
}

static void test_method_limits__a_message_unfolds_to_its_limit_and_no_further(void **state)
{
    struct arena arena;
    struct why why = {.text = ""};
    size_t fits = 1, too_many = 1 << 20;

    assert_int_equal(wire_arena_bytes(1000), 1000 * UNPACK_ARENA_FACTOR + UNPACK_ARENA_EXTRA);
    assert_int_not_equal(unpack_chats(fits, &arena, &why), STATUS_EXHAUSTED);
    assert_int_equal(unpack_chats(too_many, &arena, &why), STATUS_EXHAUSTED);
    while (too_many - fits > 1) { /* the border is one message wide */
        size_t middle = fits + (too_many - fits) / 2;
        if (unpack_chats(middle, &arena, &why) == STATUS_EXHAUSTED)
            too_many = middle;
        else
            fits = middle;
    }
    /* what fits without a factor: the extra bytes over what one message unfolds to */
    assert_true(fits > UNPACK_ARENA_EXTRA / 512 && fits < UNPACK_ARENA_EXTRA / 8);
}

static void test_method_limits__a_request_id_of_the_limit_is_kept_and_one_more_byte_is_not(
    void **state)
{
    struct call call;
    char id[REQUEST_ID_BYTES_MAX + 2];
    assert_int_equal(sizeof call.request_id, REQUEST_ID_BYTES_MAX + 1);
    memset(id, 'i', sizeof id);

    assert_true(grpc_text_copy(slice_of(id, REQUEST_ID_BYTES_MAX), call.request_id,
                               sizeof call.request_id));
    assert_int_equal(strlen(call.request_id), REQUEST_ID_BYTES_MAX);
    assert_false(grpc_text_copy(slice_of(id, REQUEST_ID_BYTES_MAX + 1), call.request_id,
                                sizeof call.request_id));
}

static int unpack_section_tokens(uint8_t n)
{
    const uint8_t body[] = {0x0a, 2, 0x10, n}; /* options { section_tokens: n } */
    struct wire_summarize out;
    struct arena arena;
    struct why why;
    arena_init(&arena, wire_arena_bytes(sizeof body));
    int status = wire_unpack_summarize(&arena, slice_of(body, sizeof body), &out, &why);
    if (status == STATUS_OK)
        assert_int_equal(out.options.section_tokens, n);
    arena_release(&arena);
    return status;
}

static void test_method_limits__sections_of_the_least_tokens_and_one_less(void **state)
{
    assert_int_equal(unpack_section_tokens(SECTION_TOKENS_MIN), STATUS_OK);
    assert_int_equal(unpack_section_tokens(SECTION_TOKENS_MIN - 1), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_method_limits__each_method_has_its_own),
        cmocka_unit_test(test_method_limits__a_message_unfolds_to_its_limit_and_no_further),
        cmocka_unit_test(
            test_method_limits__a_request_id_of_the_limit_is_kept_and_one_more_byte_is_not),
        cmocka_unit_test(test_method_limits__sections_of_the_least_tokens_and_one_less),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
