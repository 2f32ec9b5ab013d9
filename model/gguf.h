/* model/gguf.h: a GGUF file (v2, v3; one file or a split set), mapped read-only and checked before
 * anything is believed.
 *
 * Every refusal names the key or tensor and the numbers (models.md 1.3). Slices and tensor bytes
 * point into the map and live until gguf_close. Thread: read-only after open, any thread.
 */
#ifndef QUIRE_MODEL_GGUF_H
#define QUIRE_MODEL_GGUF_H

#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum gguf_kind {
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING,
    GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64
};

struct gguf_value {
    struct slice key;
    enum gguf_kind kind;
    enum gguf_kind element;   /* of GGUF_ARRAY */
    uint64_t n;               /* elements of GGUF_ARRAY; 1 otherwise */
    const uint8_t *bytes;     /* the value, unaligned, in the map; a string: u64 length + bytes */
    const uint8_t **strings;  /* [n] of an array of strings: each points at its u64 length */
};

struct gguf_tensor {
    struct slice name;
    uint32_t type;            /* enum tensor_type or an id this build cannot read */
    uint32_t n_dims;
    uint64_t dims[4];         /* file order: dims[0] is contiguous; unused are 1 */
    const uint8_t *bytes;
    uint64_t n_bytes;
    uint32_t file_idx;        /* of a split set */
};

struct gguf;
struct stat;

/* Opens the file, and the rest of its split set when it is the first part: another part is refused
 * with the name of the first, which alone holds the model's keys. STATUS_NOT_FOUND, STATUS_IO,
 * STATUS_INVALID (no file, another part), STATUS_CORRUPT, STATUS_UNSUPPORTED, STATUS_NO_MEMORY. */
int gguf_open(const char *path, struct gguf **out, struct why *why);
void gguf_close(struct gguf *file);
/* STATUS_CORRUPT when size or mtime of a file changed since open: call when loading is done. */
int gguf_check_unchanged(const struct gguf *file, struct why *why);
uint32_t gguf_n_files(const struct gguf *file);
const char *gguf_file_path(const struct gguf *file, uint32_t file_idx);
uint64_t gguf_file_bytes(const struct gguf *file, uint32_t file_idx);
/* The file as it is now, whatever its path names by now. STATUS_IO. */
int gguf_file_stat(const struct gguf *file, uint32_t file_idx, struct stat *out);
uint32_t gguf_version(const struct gguf *file);

uint64_t gguf_n_values(const struct gguf *file);
const struct gguf_value *gguf_value_at(const struct gguf *file, uint64_t idx);
const struct gguf_value *gguf_find(const struct gguf *file, const char *key); /* NULL when absent */

/* Typed reads: 1 found and stored, 0 absent (out untouched), STATUS_CORRUPT wrong kind or out of
 * range (why names key and number). Integers are read from any integer kind that fits. */
int gguf_u32(const struct gguf *file, const char *key, uint32_t *out, struct why *why);
int gguf_u64(const struct gguf *file, const char *key, uint64_t *out, struct why *why);
int gguf_f32(const struct gguf *file, const char *key, float *out, struct why *why);
int gguf_bool(const struct gguf *file, const char *key, bool *out, struct why *why);
int gguf_string(const struct gguf *file, const char *key, struct slice *out, struct why *why);
/* Element i of an array of integers of any kind, as gguf_u32 reads it; STATUS_CORRUPT when the
 * elements are no integers or this one does not fit. i below array->n. */
int gguf_u32_at(const struct gguf_value *array, const char *key, uint64_t i, uint32_t *out,
                struct why *why);
/* Element i of an array of bools, i below array->n. */
bool gguf_bool_at(const struct gguf_value *array, uint64_t i);
/* Element i of a string array, i below array->n; the array was checked whole at open. O(1). */
struct slice gguf_string_at(const struct gguf_value *array, uint64_t i);

uint64_t gguf_n_tensors(const struct gguf *file);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *file, uint64_t idx);
/* NULL when absent */
const struct gguf_tensor *gguf_tensor_find(const struct gguf *file, const char *name);
/* its pages may leave memory (madvise) */
void gguf_tensor_drop(const struct gguf *file, const struct gguf_tensor *tensor);

/* SHA-256 over the bytes of all files in order, which are read for it: the caller runs it on a
 * thread of its own, and digest_cache.h keeps what it gives. `stop` (may be NULL) is polled about
 * every MiB: non-zero ends with STATUS_CANCELLED. */
int gguf_digest(const struct gguf *file, const volatile int *stop, uint8_t out[32],
                struct why *why);

#endif
