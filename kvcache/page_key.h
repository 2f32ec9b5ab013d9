/* kvcache/page_key.h: the names of full pages: a chain of digests from what computed them.
 *
 *   identity --> root(identity, salt) --> key 0 --> key 1 --> key 2 ...
 *                                          |         |
 *                                     64 units   64 units         key = SHA-256(previous, units)
 *
 * Two pages have one key only where everything before and in them is the same: the weights, the
 * arithmetic, the form of pages, the salt, and every unit. A unit is 64 bits: a token id, or the
 * digest of a piece of an image. Keys and roots are SHA-256 cut to 128 bits, since who could guess
 * one could poison the cache of others; numbers are hashed little-endian.
 */
#ifndef QUIRE_KVCACHE_PAGE_KEY_H
#define QUIRE_KVCACHE_PAGE_KEY_H

#include "base/hash.h"
#include "limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_KEY_BYTES 16

struct page_key {
    uint8_t bytes[PAGE_KEY_BYTES];
};

#define PAGE_FORMAT_VERSION 1 /* of what a page holds: raised when its bytes mean something else */

/* What values in a page depend on beside the units. Unused parts are zero. */
struct kv_identity {
    uint8_t weights[SHA256_BYTES];      /* digest of the model's file or files */
    uint8_t rope[SHA256_BYTES];         /* of overrides of the file's RoPE */
    uint8_t adapter[SHA256_BYTES];
    uint32_t numerics;                  /* ops->numerics */
    uint32_t n_ranks;
    char activations[16];               /* zero-padded name */
    uint32_t n_groups;
    struct {
        uint32_t kind, window, dtype_open, dtype_full;
    } groups[KV_GROUPS_MAX];
};

/* `salt` of n bytes keeps those who do not know it from hitting what was stored under it. */
void page_key_root(struct sha256 *hash, const struct kv_identity *identity, const void *salt,
                   size_t n, struct page_key *out);
void page_key_next(struct sha256 *hash, const struct page_key *previous,
                   const uint64_t units[PAGE_TOKENS], struct page_key *out);
bool page_key_equal(const struct page_key *a, const struct page_key *b);

#endif
