/* model/digest_cache.h: the SHA-256 of a model's files, kept from one start to the next: to know
 * what is served, a hundred gigabytes need not be read again.
 *
 *   $XDG_CACHE_HOME/quire/digest-<16 hex>      named after the files' devices and inodes
 *
 *     quire digest 1
 *     <device> <inode> <bytes> <modified s.ns> <changed s.ns>      a line a file
 *     <64 hex>                                                      the digest
 *     <16 hex>                                                      XXH3 of all before
 *
 * An entry is believed if it is to the byte what would be written of the files as they are now, and
 * stands in a file and folder of our own that nobody else may write. Any other is as good as none:
 * the digest is computed, and the entry replaced by a whole one. Times of change are the kernel's
 * and cannot be set back; a file that changed a moment ago is not kept, since it could change again
 * within one tick of its clock. Nothing fails for want of a cache. Thread: any.
 */
#ifndef QUIRE_MODEL_DIGEST_CACHE_H
#define QUIRE_MODEL_DIGEST_CACHE_H

#include "model/gguf.h"

#define DIGEST_FOLDER_BYTES 4096

struct digest_cache {
    char folder[DIGEST_FOLDER_BYTES]; /* "": nothing is kept */
    uint64_t bytes_min; /* of all files: fewer are read in a moment, and not kept */
    int64_t still_s;    /* so long ago they changed last */
};

/* $XDG_CACHE_HOME/quire, or $HOME/.cache/quire, if that is an absolute path; 256 MiB, 2 s. */
void digest_cache_init(struct digest_cache *cache);
/* As gguf_digest, out of the cache or into it. */
int digest_cache_of(const struct digest_cache *cache, const struct gguf *file,
                    const volatile int *stop, uint8_t out[32], struct why *why);

#endif
