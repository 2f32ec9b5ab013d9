#include "base/hash.h"

#include <stdlib.h>

#include <openssl/evp.h>
#include <xxhash.h>

#include "base/status.h"

struct sha256 {
    EVP_MD_CTX *digest;
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
    hash->digest = EVP_MD_CTX_new();
    if (hash->digest == NULL || EVP_DigestInit_ex(hash->digest, EVP_sha256(), NULL) != 1) {
        sha256_free(hash);
        return STATUS_NO_MEMORY;
    }
    *out = hash;
    return STATUS_OK;
}

void sha256_update(struct sha256 *hash, const void *bytes, size_t len)
{
    must(EVP_DigestUpdate(hash->digest, bytes, len));
}

void sha256_finish(struct sha256 *hash, uint8_t out[SHA256_BYTES])
{
    must(EVP_DigestFinal_ex(hash->digest, out, NULL));
    must(EVP_DigestInit_ex(hash->digest, EVP_sha256(), NULL));
}

void sha256_free(struct sha256 *hash)
{
    if (hash == NULL)
        return;
    EVP_MD_CTX_free(hash->digest);
    free(hash);
}

void sha256_of(const void *bytes, size_t len, uint8_t out[SHA256_BYTES])
{
    must(EVP_Digest(bytes, len, out, NULL, EVP_sha256(), NULL));
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
