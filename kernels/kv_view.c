#include "kernels/kv_view.h"

const char *kv_dtype_name(enum kv_dtype dtype)
{
    return dtype == KV_F16 ? "f16" : "f32";
}

size_t kv_dtype_bytes(enum kv_dtype dtype)
{
    return dtype == KV_F16 ? 2 : 4;
}
