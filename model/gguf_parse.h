/* model/gguf_parse.h: the bytes of one GGUF file into tables, every count checked against what is
 * left of the file.
 *
 *   magic version n_tensors n_kv | n_kv x (key, kind, value) | n_tensors x info | padding | data
 *
 * Internal to gguf*.c. A part is one file of a split set.
 */
#ifndef QUIRE_MODEL_GGUF_PARSE_H
#define QUIRE_MODEL_GGUF_PARSE_H

#include "model/gguf.h"

#include <sys/stat.h>

struct gguf_part {
    char *path;
    int fd;
    const uint8_t *map; /* [bytes], read-only */
    uint64_t bytes;
    struct stat opened; /* as it was at open */
    uint32_t version;
};

struct gguf_tables {
    struct gguf_value *values; /* their strings are owned too */
    uint64_t n_values;
    struct gguf_tensor *tensors;
    uint64_t n_tensors;
};

/* Appends this part's values (keep_values) and tensors. Pointers go into the part's map.
 * STATUS_CORRUPT, STATUS_UNSUPPORTED (version, endianness), STATUS_NO_MEMORY; the tables keep what
 * was appended and are released as usual. */
int gguf_parse(const struct gguf_part *part, uint32_t part_idx, bool keep_values,
               struct gguf_tables *tables, struct why *why);
void gguf_tables_release(struct gguf_tables *tables);

/* A name out of the file for a sentence: quoted and escaped where it holds anything but plain
 * characters (it must not steer a terminal), and cut to fit. */
struct gguf_shown {
    char text[80];
};
struct gguf_shown gguf_shown(struct slice name);

uint32_t gguf_kind_bytes(enum gguf_kind kind); /* of a fixed-size kind; 0 for strings and arrays */
const char *gguf_kind_name(enum gguf_kind kind);

#endif
