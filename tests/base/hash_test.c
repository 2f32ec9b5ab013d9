#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"

static const char *hex_of(const char *text)
{
    static char hex[SHA256_HEX_BYTES];
    uint8_t digest[SHA256_BYTES];
    sha256_of(text, strlen(text), digest);
    sha256_hex(digest, hex);
    return hex;
}

static void test_sha256__agrees_with_fips_180(void **state)
{
    assert_string_equal(hex_of(""),
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_string_equal(hex_of("abc"),
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_string_equal(hex_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
                        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void test_sha256__pieces_of_any_size_give_the_same_digest(void **state)
{
    uint8_t bytes[1000], whole[SHA256_BYTES], pieced[SHA256_BYTES];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 7);
    sha256_of(bytes, sizeof bytes, whole);
    struct sha256 *hash;
    assert_int_equal(sha256_create(&hash), 0);
    for (size_t piece = 1; piece < 130; piece += 7) {
        for (size_t at = 0; at < sizeof bytes; at += piece)
            sha256_update(hash, bytes + at, at + piece > sizeof bytes ? sizeof bytes - at : piece);
        sha256_update(hash, NULL, 0);
        sha256_finish(hash, pieced); /* and the next round starts afresh */
        assert_memory_equal(whole, pieced, SHA256_BYTES);
    }
    sha256_free(hash);
    sha256_free(NULL);
}

static void test_hash64__is_xxh3(void **state)
{
    assert_true(hash64("", 0, 0) == UINT64_C(0x2d06800538d394c2)); /* XXH3_64bits of nothing */
    assert_true(hash64("quire", 5, 0) == hash64("quire", 5, 0));
    assert_true(hash64("quire", 5, 0) != hash64("quire", 5, 1));
    assert_true(hash64("quire", 5, 0) != hash64("quirf", 5, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256__agrees_with_fips_180),
        cmocka_unit_test(test_sha256__pieces_of_any_size_give_the_same_digest),
        cmocka_unit_test(test_hash64__is_xxh3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
