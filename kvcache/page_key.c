#include "kvcache/page_key.h"

#include <endian.h>
#include <string.h>

static void add_number(struct sha256 *hash, uint64_t number)
{
    number = htole64(number);
    sha256_update(hash, &number, sizeof number);
}

static void cut(struct sha256 *hash, struct page_key *out)
{
    uint8_t digest[SHA256_BYTES];
    sha256_finish(hash, digest);
    memcpy(out->bytes, digest, sizeof out->bytes);
}

/* Every part has a fixed place or its length before it, so that no two identities read alike. */
void page_key_root(struct sha256 *hash, const struct kv_identity *identity, const void *salt,
                   size_t n, struct page_key *out)
{
    add_number(hash, PAGE_FORMAT_VERSION);
    sha256_update(hash, identity->weights, sizeof identity->weights);
    sha256_update(hash, identity->rope, sizeof identity->rope);
    sha256_update(hash, identity->adapter, sizeof identity->adapter);
    add_number(hash, identity->numerics);
    add_number(hash, identity->n_ranks);
    sha256_update(hash, identity->activations, sizeof identity->activations);
    add_number(hash, identity->n_groups);
    for (uint32_t g = 0; g < identity->n_groups; g++) {
        add_number(hash, identity->groups[g].kind);
        add_number(hash, identity->groups[g].window);
        add_number(hash, identity->groups[g].dtype_open);
        add_number(hash, identity->groups[g].dtype_full);
    }
    add_number(hash, n);
    sha256_update(hash, salt, n);
    cut(hash, out);
}

void page_key_next(struct sha256 *hash, const struct page_key *previous,
                   const uint64_t units[PAGE_TOKENS], struct page_key *out)
{
    uint64_t bytes[PAGE_TOKENS];

    for (int i = 0; i < PAGE_TOKENS; i++)
        bytes[i] = htole64(units[i]);
    sha256_update(hash, previous->bytes, sizeof previous->bytes);
    sha256_update(hash, bytes, sizeof bytes);
    cut(hash, out);
}

bool page_key_equal(const struct page_key *a, const struct page_key *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}
