/* kernels/kv_dtype.h: what the values of pages are stored as.
 *
 *   f32, f16, bf16   as they are written
 *   q8, q4           written as f16, and packed when all 64 tokens of a page are there: codes of 8
 *                    or 4 bits, and f32 least value and step for each run of values (ops.h,
 *                    page_seal)
 *
 * Groups of layers that see everything may take another type than those with a window.
 */
#ifndef QUIRE_KERNELS_KV_DTYPE_H
#define QUIRE_KERNELS_KV_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/host_device.h"

struct why;

enum kv_dtype { KV_F16, KV_F32, KV_BF16, KV_Q8, KV_Q4 };
#define KV_DTYPES 5

/* FULL sees every earlier position; SLIDING those with query - key < window; CHUNKED those of its
 * own chunk of `window`. */
enum kv_kind { KV_FULL, KV_SLIDING, KV_CHUNKED };

const char *kv_dtype_name(enum kv_dtype dtype);
size_t kv_dtype_bytes(enum kv_dtype dtype); /* of a value; not of packed types (asserted) */

HOST_DEVICE bool kv_dtype_is_packed(enum kv_dtype dtype)
{
    return dtype == KV_Q8 || dtype == KV_Q4;
}

/* What values are written as before a page of this type is full. */
static inline enum kv_dtype kv_dtype_open(enum kv_dtype dtype)
{
    return kv_dtype_is_packed(dtype) ? KV_F16 : dtype;
}

/* Types of a cache. */
struct kv_dtypes {
    enum kv_dtype global, local; /* of groups that see everything; of those with a window */
    bool names_global, names_local; /* the text named that kind: "local=q4" */
};

static inline enum kv_dtype kv_dtypes_of(const struct kv_dtypes *dtypes, enum kv_kind kind)
{
    return kind == KV_FULL ? dtypes->global : dtypes->local;
}

/* "q8", or "global=q4,local=f16" with either left out, which is f16 then. `option` ("--kv-dtype")
 * names the setting. STATUS_INVALID. */
int kv_dtypes_parse(const char *option, const char *text, struct kv_dtypes *out, struct why *why);
#define KV_DTYPES_TEXT_BYTES 32
/* The same text again; returns `out`. */
const char *kv_dtypes_text(const struct kv_dtypes *dtypes, char out[KV_DTYPES_TEXT_BYTES]);

#endif
