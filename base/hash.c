/* EVP allocates each time a digest begins, which steps may not (law 4): so the functions below it,
 * which OpenSSL calls deprecated in favour of EVP, and keeps. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/hash.h"

#include <stdlib.h>

#include <openssl/sha.h>
#include <xxhash.h>

#include "base/status.h"

struct sha256 {
    SHA256_CTX digest;
};

/* A digest that is set up does not fail; should it all the same, a wrong identity must not leave
 * this file. */
static void must(int ok)
{
    if (ok != 1)
        abort();
}

int sha256_create(struct sha256 **out)
{
    struct sha256 *hash = calloc(1, sizeof *hash);
    if (hash == NULL)
        return STATUS_NO_MEMORY;
    must(SHA256_Init(&hash->digest));
    *out = hash;
    return STATUS_OK;
}

void sha256_update(struct sha256 *hash, const void *bytes, size_t len)
{
    must(SHA256_Update(&hash->digest, bytes, len));
}

void sha256_finish(struct sha256 *hash, uint8_t out[SHA256_BYTES])
{
    must(SHA256_Final(out, &hash->digest));
    must(SHA256_Init(&hash->digest));
}

void sha256_free(struct sha256 *hash)
{
    free(hash);
}

void sha256_of(const void *bytes, size_t len, uint8_t out[SHA256_BYTES])
{
    struct sha256 hash;
    must(SHA256_Init(&hash.digest));
    sha256_update(&hash, bytes, len);
    sha256_finish(&hash, out);
}

void sha256_hex(const uint8_t digest[SHA256_BYTES], char out[SHA256_HEX_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < SHA256_BYTES; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[2 * SHA256_BYTES] = 0;
}

uint64_t hash64(const void *bytes, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, len, seed);
}
