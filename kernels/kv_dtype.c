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

/* "global=TYPE", where `name` is "global=", once. */
static bool read_named(const char *name, const char *text, size_t n, bool *is_named,
                       enum kv_dtype *out)
{
    size_t n_name = strlen(name);

    if (*is_named || n <= n_name || memcmp(text, name, n_name) != 0)
        return false;
    *is_named = true;
    return find(text + n_name, n - n_name, out);
}

int kv_dtypes_parse(const char *option, const char *text, struct kv_dtypes *out, struct why *why)
{
    enum kv_dtype both;
    bool is_known = true;

    *out = (struct kv_dtypes){.global = KV_F16, .local = KV_F16};
    if (find(text, strlen(text), &both)) {
        *out = (struct kv_dtypes){.global = both, .local = both};
        return STATUS_OK;
    }
    for (const char *at = text; is_known; at++) {
        size_t n = strcspn(at, ",");
        is_known = read_named("global=", at, n, &out->names_global, &out->global) ||
                   read_named("local=", at, n, &out->names_local, &out->local);
        at += n;
        if (*at == '\0')
            break;
    }
    if (is_known)
        return STATUS_OK;
    return refuse(why, STATUS_INVALID,
                  "%s takes f16, f32, bf16, q8 or q4, or one for each kind of layers, named once "
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
