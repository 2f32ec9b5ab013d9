#include "kernels/kv_view.h"

size_t kv_shape_page_bytes(const struct kv_shape *shape, enum kv_dtype dtype)
{
    size_t k = shape->k_dim, v = shape->v_in_k ? 0 : shape->v_dim;
    size_t n_values = PAGE_TOKENS * (k + v), n_runs = k + (v > 0 ? PAGE_TOKENS : 0);

    if (!kv_dtype_is_packed(dtype))
        return shape->n_kv_heads * n_values * kv_dtype_bytes(dtype);
    return shape->n_kv_heads *
           (n_values / (dtype == KV_Q4 ? 2 : 1) + n_runs * 2 * sizeof(float));
}
