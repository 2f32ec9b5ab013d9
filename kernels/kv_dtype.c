#include "kernels/kv_dtype.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"

static const char *const names[KV_DTYPES] = {
    [KV_F16] = "f16", [KV_F32] = "f32", [KV_BF16] = "bf16", [KV_Q8] = "q8", [KV_Q4] = "q4",
};

const char *kv_dtype_name(enum kv_dtype dtype)
{
    return names[dtype];
}

size_t kv_dtype_bytes(enum kv_dtype dtype)
{
    assert(!kv_dtype_is_packed(dtype));
    return dtype == KV_F32 ? 4 : 2;
}

static bool find(const char *text, size_t n, enum kv_dtype *out)
{
    for (int i = 0; i < KV_DTYPES; i++)
        if (strlen(names[i]) == n && memcmp(names[i], text, n) == 0) {
            *out = (enum kv_dtype)i;
            return true;
        }
    return false;
}

/* One of "global=TYPE" and "local=TYPE". */
static bool read_part(const char *text, size_t n, struct kv_dtypes *out)
{
    static const char global[] = "global=", local[] = "local=";
    size_t n_global = sizeof global - 1, n_local = sizeof local - 1;

    if (n > n_global && memcmp(text, global, n_global) == 0)
        return find(text + n_global, n - n_global, &out->global);
    return n > n_local && memcmp(text, local, n_local) == 0 &&
           find(text + n_local, n - n_local, &out->local);
}

int kv_dtypes_parse(const char *option, const char *text, struct kv_dtypes *out, struct why *why)
{
    enum kv_dtype both;
    bool is_known = true;

    *out = (struct kv_dtypes){KV_F16, KV_F16};
    if (find(text, strlen(text), &both)) {
        *out = (struct kv_dtypes){both, both};
        return STATUS_OK;
    }
    for (const char *at = text; is_known; at++) {
        size_t n = strcspn(at, ",");
        is_known = read_part(at, n, out);
        at += n;
        if (*at == '\0')
            break;
    }
    if (is_known)
        return STATUS_OK;
    return refuse(why, STATUS_INVALID,
                  "%s takes f16, f32, bf16, q8 or q4, or one for each kind of layers "
                  "(global=q4,local=f16), not \"%.80s\"",
                  option, text);
}

const char *kv_dtypes_text(const struct kv_dtypes *dtypes, char out[KV_DTYPES_TEXT_BYTES])
{
    if (dtypes->global == dtypes->local)
        snprintf(out, KV_DTYPES_TEXT_BYTES, "%s", names[dtypes->global]);
    else
        snprintf(out, KV_DTYPES_TEXT_BYTES, "global=%s,local=%s", names[dtypes->global],
                 names[dtypes->local]);
    return out;
}
