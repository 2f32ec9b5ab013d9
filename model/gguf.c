#include "model/gguf.h"

#include "base/hash.h"
#include "limits.h"
#include "model/gguf_parse.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SPLIT_SUFFIX_FORMAT "-%05u-of-%05u.gguf"
#define SPLIT_SUFFIX_BYTES 20
#define DIGEST_PIECE_BYTES (1u << 20)
#define INDEX_EMPTY UINT32_MAX

/* Open addressing over names; at most half full. */
struct index {
    uint32_t *slots;
    uint32_t mask;
};

struct gguf {
    struct gguf_part *parts;
    uint32_t n_parts;
    struct gguf_tables tables;
    struct index keys, names;
};

/* --- one file --- */

/* A file that shrinks under its map raises SIGBUS, and there is nothing to go on with: say so and
 * end. */
static void on_bus_error(int number)
{
    static const char text[] = "quire: a model file shrank or failed to read while it was being "
                               "loaded: check the disk, fetch it again\n";
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    (void)number;
    _exit(1);
}

static int part_open(const char *path, struct gguf_part *out, struct why *why)
{
    memset(out, 0, sizeof *out);
    out->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is refused, not awaited */
    if (out->fd < 0)
        return refuse(why, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: %s", path,
                      strerror(errno));
    out->path = strdup(path);
    if (out->path == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %s", path);
    if (fstat(out->fd, &out->opened) < 0)
        return refuse(why, STATUS_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(out->opened.st_mode))
        return refuse(why, STATUS_INVALID, "%s is not a file; a model is a GGUF file", path);
    out->bytes = (uint64_t)out->opened.st_size;
    if (out->bytes == 0)
        return refuse(why, STATUS_CORRUPT, "%s is empty: fetch it again", path);

    void *map = mmap(NULL, out->bytes, PROT_READ, MAP_PRIVATE, out->fd, 0);
    if (map == MAP_FAILED)
        return refuse(why, STATUS_IO, "%s: cannot map %" PRIu64 " bytes: %s", path, out->bytes,
                      strerror(errno));
    out->map = map;
    struct sigaction action = {.sa_handler = on_bus_error};
    sigaction(SIGBUS, &action, NULL);
    return STATUS_OK;
}

static void part_close(struct gguf_part *part)
{
    if (part->map != NULL)
        munmap((void *)part->map, part->bytes);
    if (part->fd >= 0)
        close(part->fd);
    free(part->path);
}

/* --- index --- */

static struct slice key_at(const struct gguf_tables *tables, bool is_tensor, uint64_t i)
{
    return is_tensor ? tables->tensors[i].name : tables->values[i].key;
}

static int index_build(struct index *index, const struct gguf_tables *tables, bool is_tensor,
                       const char *path, struct why *why)
{
    uint64_t n = is_tensor ? tables->n_tensors : tables->n_values, slots = 16;

    if (n >= INDEX_EMPTY / 4)
        return refuse(why, STATUS_CORRUPT, "%s: %" PRIu64 " names are more than a model has", path,
                      n);
    while (slots < 2 * n)
        slots *= 2;
    index->slots = malloc(slots * sizeof *index->slots);
    if (index->slots == NULL)
        return refuse(why, STATUS_NO_MEMORY, "%s: no memory for %" PRIu64 " names", path, n);
    memset(index->slots, 0xff, slots * sizeof *index->slots);
    index->mask = (uint32_t)(slots - 1);

    for (uint64_t i = 0; i < n; i++) {
        struct slice key = key_at(tables, is_tensor, i);
        uint32_t slot = (uint32_t)hash64(key.bytes, key.len, 0) & index->mask;
        for (; index->slots[slot] != INDEX_EMPTY; slot = (slot + 1) & index->mask)
            if (slice_equal(key_at(tables, is_tensor, index->slots[slot]), key))
                return refuse(why, STATUS_CORRUPT, "%s: %s %s stands twice", path,
                              is_tensor ? "tensor" : "key", gguf_shown(key).text);
        index->slots[slot] = (uint32_t)i;
    }
    return STATUS_OK;
}

static uint32_t index_find(const struct index *index, const struct gguf_tables *tables,
                           bool is_tensor, const char *name)
{
    struct slice key = slice_from(name);
    uint32_t slot = (uint32_t)hash64(key.bytes, key.len, 0) & index->mask;

    for (; index->slots[slot] != INDEX_EMPTY; slot = (slot + 1) & index->mask)
        if (slice_equal(key_at(tables, is_tensor, index->slots[slot]), key))
            return index->slots[slot];
    return INDEX_EMPTY;
}

/* --- split sets --- */

/* PREFIX-00001-of-00003.gguf: true, and the prefix's length, when path says part no (from 0) of
 * count. */
static bool split_prefix(const char *path, uint32_t no, uint32_t count, size_t *len)
{
    char suffix[SPLIT_SUFFIX_BYTES + 16];
    int n = snprintf(suffix, sizeof suffix, SPLIT_SUFFIX_FORMAT, no + 1, count);
    size_t path_len = strlen(path);

    if (n < 0 || (size_t)n >= path_len || strcmp(path + path_len - (size_t)n, suffix) != 0)
        return false;
    *len = path_len - (size_t)n;
    return true;
}

/* What a file says of its set; a file of no set is part 0 of 1. */
struct split {
    uint32_t no, count;
};

static int read_split(const struct gguf *file, const char *path, struct split *out, struct why *why)
{
    *out = (struct split){.no = 0, .count = 1};
    int found = gguf_u32(file, "split.count", &out->count, why);
    if (found < 0 || gguf_u32(file, "split.no", &out->no, why) < 0)
        return refuse_prefix(why, STATUS_CORRUPT, "%s", path);
    if (out->count == 0)
        out->count = 1; /* as some writers say "not split" */
    if (out->no >= out->count)
        return refuse(why, STATUS_CORRUPT,
                      "%s: split.no is %u and split.count %s%u; parts are counted from 0", path,
                      out->no, found == 1 ? "" : "is missing, that is ", out->count);
    if (out->count > GGUF_SPLITS_MAX)
        return refuse(why, STATUS_CORRUPT, "%s: split.count is %u; at most %d parts are read", path,
                      out->count, GGUF_SPLITS_MAX);
    return STATUS_OK;
}

static int check_split_keys(const struct gguf_part *part, const struct gguf_tables *tables,
                            struct split expected, struct why *why)
{
    struct gguf file = {.tables = *tables};
    struct split said;

    int status = index_build(&file.keys, tables, false, part->path, why);
    if (status == STATUS_OK)
        status = read_split(&file, part->path, &said, why);
    free(file.keys.slots);
    if (status < 0)
        return status;
    if (said.no != expected.no || said.count != expected.count)
        return refuse(why, STATUS_CORRUPT,
                      "%s: split.no %u of split.count %u, expected %u of %u: a file of another set",
                      part->path, said.no, said.count, expected.no, expected.count);
    return STATUS_OK;
}

static int open_part_of_set(struct gguf *file, const char *prefix, size_t prefix_len, uint32_t no,
                            uint32_t count, struct why *why)
{
    size_t cap = prefix_len + SPLIT_SUFFIX_BYTES + 16;
    char *path = malloc(cap);
    if (path == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a path");
    snprintf(path, cap, "%.*s" SPLIT_SUFFIX_FORMAT, (int)prefix_len, prefix, no + 1, count);

    struct gguf_part *part = &file->parts[file->n_parts++];
    int status = part_open(path, part, why);
    free(path);
    if (status < 0)
        return refuse_prefix(why, status, "part %u of %u", no + 1, count);

    struct gguf_tables own = {0};
    status = gguf_parse(part, no, true, &own, why);
    if (status == STATUS_OK)
        status = check_split_keys(part, &own, (struct split){.no = no, .count = count}, why);
    if (status == STATUS_OK) {
        struct gguf_tensor *grown = realloc(
            file->tables.tensors, (file->tables.n_tensors + own.n_tensors + 1) * sizeof *grown);
        if (grown == NULL) {
            status = refuse(why, STATUS_NO_MEMORY, "no memory for the tensors of %s", part->path);
        } else {
            memcpy(grown + file->tables.n_tensors, own.tensors, own.n_tensors * sizeof *grown);
            file->tables.tensors = grown;
            file->tables.n_tensors += own.n_tensors;
        }
    }
    gguf_tables_release(&own);
    return status;
}

/* Only the first part holds the model's keys. */
static int refuse_later_part(const char *path, struct split split, struct why *why)
{
    size_t prefix_len;
    if (!split_prefix(path, split.no, split.count, &prefix_len))
        return refuse(why, STATUS_INVALID,
                      "%s is part %u of a split model of %u: give the first part, whose name ends "
                      "in -00001-of-%05u.gguf",
                      path, split.no + 1, split.count, split.count);
    return refuse(why, STATUS_INVALID,
                  "%s is part %u of a split model of %u: give the first part, "
                  "%.*s-00001-of-%05u.gguf",
                  path, split.no + 1, split.count, (int)prefix_len, path, split.count);
}

static int open_later_parts(struct gguf *file, uint32_t count, struct why *why)
{
    size_t prefix_len;
    if (!split_prefix(file->parts[0].path, 0, count, &prefix_len))
        return refuse(why, STATUS_INVALID,
                      "%s is the first part of a split model of %u, but its name does not end in "
                      "-00001-of-%05u.gguf: give the parts their names back",
                      file->parts[0].path, count, count);

    struct gguf_part *parts = realloc(file->parts, count * sizeof *parts);
    if (parts == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %u parts", count);
    file->parts = parts;
    for (uint32_t i = 1; i < count; i++) {
        int status = open_part_of_set(file, file->parts[0].path, prefix_len, i, count, why);
        if (status < 0)
            return status;
    }
    return STATUS_OK;
}

static int open_rest(struct gguf *file, struct why *why)
{
    struct split split;
    uint64_t n_tensors;

    int status = read_split(file, file->parts[0].path, &split, why);
    if (status < 0)
        return status;
    if (split.no != 0)
        return refuse_later_part(file->parts[0].path, split, why);
    if (split.count > 1)
        status = open_later_parts(file, split.count, why);
    if (status < 0)
        return status;
    int found = gguf_u64(file, "split.tensors.count", &n_tensors, why);
    if (found < 0)
        return refuse_prefix(why, found, "%s", file->parts[0].path);
    if (found == 1 && n_tensors != file->tables.n_tensors)
        return refuse(why, STATUS_CORRUPT,
                      "%s: split.tensors.count is %" PRIu64 ", the parts (%u) hold %" PRIu64
                      " tensors",
                      file->parts[0].path, n_tensors, split.count, file->tables.n_tensors);
    return STATUS_OK;
}

/* --- the file --- */

int gguf_open(const char *path, struct gguf **out, struct why *why)
{
    struct gguf *file = calloc(1, sizeof *file);
    if (file != NULL)
        file->parts = calloc(1, sizeof *file->parts);
    if (file == NULL || file->parts == NULL) {
        free(file);
        return refuse(why, STATUS_NO_MEMORY, "no memory to open %s", path);
    }
    file->n_parts = 1;
    int status = part_open(path, &file->parts[0], why);
    if (status == STATUS_OK)
        status = gguf_parse(&file->parts[0], 0, true, &file->tables, why);
    if (status == STATUS_OK)
        status = index_build(&file->keys, &file->tables, false, path, why);
    if (status == STATUS_OK)
        status = open_rest(file, why);
    if (status == STATUS_OK)
        status = index_build(&file->names, &file->tables, true, path, why);
    if (status < 0) {
        gguf_close(file);
        return status;
    }
    *out = file;
    return STATUS_OK;
}

void gguf_close(struct gguf *file)
{
    if (file == NULL)
        return;
    for (uint32_t i = 0; i < file->n_parts; i++)
        part_close(&file->parts[i]);
    free(file->parts);
    gguf_tables_release(&file->tables);
    free(file->keys.slots);
    free(file->names.slots);
    free(file);
}

int gguf_check_unchanged(const struct gguf *file, struct why *why)
{
    for (uint32_t i = 0; i < file->n_parts; i++) {
        const struct gguf_part *part = &file->parts[i];
        struct stat now;
        if (fstat(part->fd, &now) < 0 || now.st_size != part->opened.st_size ||
            now.st_mtim.tv_sec != part->opened.st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != part->opened.st_mtim.tv_nsec)
            return refuse(why, STATUS_CORRUPT,
                          "%s changed while it was being read: start again when it is complete",
                          part->path);
    }
    return STATUS_OK;
}

uint32_t gguf_n_files(const struct gguf *file)
{
    return file->n_parts;
}

const char *gguf_file_path(const struct gguf *file, uint32_t file_idx)
{
    return file->parts[file_idx].path;
}

uint64_t gguf_file_bytes(const struct gguf *file, uint32_t file_idx)
{
    return file->parts[file_idx].bytes;
}

int gguf_file_stat(const struct gguf *file, uint32_t file_idx, struct stat *out)
{
    return fstat(file->parts[file_idx].fd, out) < 0 ? STATUS_IO : STATUS_OK;
}

uint32_t gguf_version(const struct gguf *file)
{
    uint32_t version;
    memcpy(&version, file->parts[0].map + 4, sizeof version);
    return version;
}

uint64_t gguf_n_values(const struct gguf *file)
{
    return file->tables.n_values;
}

const struct gguf_value *gguf_value_at(const struct gguf *file, uint64_t idx)
{
    return &file->tables.values[idx];
}

const struct gguf_value *gguf_find(const struct gguf *file, const char *key)
{
    uint32_t i = index_find(&file->keys, &file->tables, false, key);
    return i == INDEX_EMPTY ? NULL : &file->tables.values[i];
}

struct slice gguf_string_at(const struct gguf_value *array, uint64_t i)
{
    uint64_t len;

    assert(array->strings != NULL && i < array->n);
    memcpy(&len, array->strings[i], sizeof len);
    return slice_of(array->strings[i] + sizeof len, len);
}

uint64_t gguf_n_tensors(const struct gguf *file)
{
    return file->tables.n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *file, uint64_t idx)
{
    return &file->tables.tensors[idx];
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf *file, const char *name)
{
    uint32_t i = index_find(&file->names, &file->tables, true, name);
    return i == INDEX_EMPTY ? NULL : &file->tables.tensors[i];
}

void gguf_tensor_drop(const struct gguf *file, const struct gguf_tensor *tensor)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)tensor->bytes + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)tensor->bytes + tensor->n_bytes) / page * page;

    (void)file;
    if (end > begin)
        madvise((void *)begin, end - begin,
                MADV_DONTNEED); /* clean pages of a private map: read again if touched */
}

int gguf_digest(const struct gguf *file, const volatile int *stop, uint8_t out[32], struct why *why)
{
    struct sha256 *hash = NULL;
    uint8_t *piece = malloc(DIGEST_PIECE_BYTES);
    int status = piece != NULL ? sha256_create(&hash) : STATUS_NO_MEMORY;

    for (uint32_t i = 0; i < file->n_parts && status == STATUS_OK; i++) {
        const struct gguf_part *part = &file->parts[i];
        for (uint64_t at = 0; at < part->bytes && status == STATUS_OK;) {
            uint64_t want =
                part->bytes - at < DIGEST_PIECE_BYTES ? part->bytes - at : DIGEST_PIECE_BYTES;
            ssize_t n = pread(part->fd, piece, want,
                              (off_t)at); /* not the map: a file may shrink while serving */
            if (n <= 0) {
                status = refuse(why, STATUS_CORRUPT,
                                "%s: read %" PRIu64 " of %" PRIu64 " bytes: %s", part->path, at,
                                part->bytes, n < 0 ? strerror(errno) : "the file shrank");
                break;
            }
            sha256_update(hash, piece, (size_t)n);
            at += (uint64_t)n;
            if (stop != NULL && __atomic_load_n(stop, __ATOMIC_RELAXED))
                status = STATUS_CANCELLED;
        }
    }
    if (status == STATUS_OK)
        sha256_finish(hash, out);
    if (hash != NULL)
        sha256_free(hash);
    free(piece);
    return status;
}
