#include "kernels/cuda/cuda_ops.h"

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_weight.h"

#define CUDA_NUMERICS 100 /* the family of sm_80 instructions; the CPU's numbers stand below */

const struct ops cuda_ops = {
    .name = "cuda",
    .numerics = CUDA_NUMERICS,
    .page_dtypes = 1u << KV_F16 | 1u << KV_F32,
    .weight_load = cuda_weight_load,
    .weight_free = cuda_weight_free,
    .weight_info = cuda_weight_info,
    .act_bytes = cuda_act_bytes,
    .page_layer_bytes = cuda_page_layer_bytes,
    .attend_workspace_bytes = cuda_attend_workspace_bytes,
    .sample_workspace_bytes = cuda_sample_workspace_bytes,
    .moe_workspace_bytes = cuda_moe_workspace_bytes,
    .embed = cuda_embed,
    .norm = cuda_norm,
    .quantize = cuda_quantize,
    .linear = cuda_linear,
    .linear_heads = cuda_linear_heads,
    .linear_glu = cuda_linear_glu,
    .route = cuda_route,
    .moe = cuda_moe,
    .rope_append = cuda_rope_append,
    .page_seal = NULL, /* its pages are of no packed type */
    .attend = cuda_attend,
    .gather = cuda_gather,
    .sample = cuda_sample,
    .count = cuda_count,
    .count_zero = cuda_count_zero,
    .count_copy = cuda_count_copy,
    .page_zero = cuda_page_zero,
    .page_copy = cuda_page_copy,
};

const struct device_backend cuda_backend = {
    .ops = &cuda_ops,
    .is_gpu = true,
    .depth = DEVICE_DEPTH_MAX,
    .close = cuda_device_close,
    .name = cuda_device_name,
    .n_threads = cuda_device_n_threads,
    .alloc = cuda_device_alloc,
    .free = cuda_device_free,
    .alloc_host = cuda_device_alloc_host,
    .free_host = cuda_device_free_host,
    .memory_free = cuda_device_memory_free,
    .upload = cuda_device_upload,
    .download = cuda_device_download,
    .stream_create = cuda_stream_create,
    .stream_free = cuda_stream_free,
    .stream_status = cuda_stream_status,
    .write = cuda_stream_write,
    .read = cuda_stream_read,
    .submit = cuda_stream_submit,
    .wait = cuda_stream_wait,
    .is_done = cuda_stream_is_done,
    .start = cuda_stream_start,
    .follow = cuda_stream_follow,
    .graph_begin = cuda_graph_begin,
    .graph_end = cuda_graph_end,
    .graph_run = cuda_graph_run,
    .graph_free = cuda_graph_free,
};
