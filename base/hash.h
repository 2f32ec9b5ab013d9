/* base/hash.h: SHA-256 for identities (OpenSSL), XXH3 for checksums and hash tables (xxHash). */
#ifndef QUIRE_BASE_HASH_H
#define QUIRE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
#define SHA256_HEX_BYTES 65 /* 64 lower-case digits and NUL */

struct sha256; /* one running digest; allocates when it is created and never again */

int sha256_create(struct sha256 **out); /* STATUS_NO_MEMORY */
void sha256_update(struct sha256 *hash, const void *bytes, size_t len);
void sha256_finish(struct sha256 *hash, uint8_t out[SHA256_BYTES]); /* resets: may be used again */
void sha256_free(struct sha256 *hash);
void sha256_of(const void *bytes, size_t len, uint8_t out[SHA256_BYTES]);
void sha256_hex(const uint8_t digest[SHA256_BYTES], char out[SHA256_HEX_BYTES]);

/* XXH3; guessable: never for page keys. */
uint64_t hash64(const void *bytes, size_t len, uint64_t seed);

#endif
