#include "kernels/cuda/cuda_weight.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/tensor_type.h"

#define PIECE_BYTES ((size_t)8 << 20) /* repacked on the host at a time, about */
#define SCALES_ALIGNMENT 256
#define SCALE_BYTES 2

/* The planes' shape; addresses follow. */
static int plan(const struct weight_source *source, struct cuda_weight *out, size_t *scales_at,
                struct why *why)
{
    const struct tensor_type_info *info = tensor_type_info(source->type);
    if (info == NULL || !info->is_read)
        return refuse(why, STATUS_UNSUPPORTED, "%s has type %s; this build reads %s", source->name,
                      info == NULL ? "of an unknown number" : info->name, tensor_type_read_list());
    if (tensor_type_bytes(source->type, source->n_in, source->n_out) == 0)
        return refuse(why, STATUS_INVALID, "%s: rows of %u values are no whole blocks of %s",
                      source->name, source->n_in, info->name);

    struct cuda_planes *planes = &out->planes;
    uint32_t n_blocks = source->n_in / info->block_values;
    *planes = (struct cuda_planes){.type = source->type,
                                   .n_in = source->n_in,
                                   .n_out = source->n_out};
    if (info->block_values == CUDA_BLOCK_VALUES)
        planes->n_scales = source->type == TENSOR_Q4_1 ? 2 : 1;
    planes->row_bytes = (size_t)n_blocks * (info->block_bytes - planes->n_scales * SCALE_BYTES);
    size_t codes_bytes = planes->row_bytes * source->n_out;
    *scales_at = (codes_bytes + SCALES_ALIGNMENT - 1) / SCALES_ALIGNMENT * SCALES_ALIGNMENT;
    out->bytes = *scales_at + (size_t)planes->n_scales * SCALE_BYTES * n_blocks * source->n_out;
    return STATUS_OK;
}

/* Parts the file's blocks of n_rows rows: scales first in each, then codes. */
static void part_blocks(const struct cuda_planes *planes, const uint8_t *from, size_t n_rows,
                        uint8_t *codes, uint8_t *scales)
{
    if (planes->n_scales == 0) {
        memcpy(codes, from, n_rows * planes->row_bytes);
        return;
    }
    uint32_t n_blocks = planes->n_in / CUDA_BLOCK_VALUES;
    size_t code_bytes = planes->row_bytes / n_blocks, scale_bytes = planes->n_scales * SCALE_BYTES;
    for (size_t i = 0; i < n_rows * n_blocks; i++) {
        const uint8_t *block = from + i * (scale_bytes + code_bytes);
        memcpy(scales + i * scale_bytes, block, scale_bytes);
        memcpy(codes + i * code_bytes, block + scale_bytes, code_bytes);
    }
}

static int upload_planes(struct device *device, const struct cuda_weight *weight,
                         const struct weight_source *source, size_t scales_at, struct why *why)
{
    const struct cuda_planes *planes = &weight->planes;
    size_t row_scales = planes->n_scales * SCALE_BYTES * (planes->n_in / CUDA_BLOCK_VALUES);
    size_t row_bytes = planes->row_bytes + row_scales;
    size_t piece_rows = PIECE_BYTES / row_bytes + 1;
    uint8_t *piece = malloc(piece_rows * row_bytes);
    if (piece == NULL)
        return refuse(why, STATUS_NO_MEMORY, "%s: no memory for %zu bytes", source->name,
                      piece_rows * row_bytes);

    uint8_t *codes = weight->memory, *scales = codes + scales_at;
    int status = STATUS_OK;
    for (size_t row = 0; row < planes->n_out && status == STATUS_OK; row += piece_rows) {
        size_t left = planes->n_out - row, n = left < piece_rows ? left : piece_rows;
        uint8_t *piece_scales = piece + n * planes->row_bytes;
        part_blocks(planes, (const uint8_t *)source->bytes + row * row_bytes, n, piece,
                    piece_scales);
        status = device_upload(device, codes + row * planes->row_bytes, piece,
                               n * planes->row_bytes);
        if (status == STATUS_OK && row_scales > 0)
            status = device_upload(device, scales + row * row_scales, piece_scales, n * row_scales);
    }
    free(piece);
    if (status < 0)
        return refuse(why, status, "%s does not reach the GPU: %s", source->name,
                      status_text(status));
    return STATUS_OK;
}

int cuda_weight_load(struct device *device, enum weight_fuse fuse,
                     const struct weight_source *sources, uint32_t n_sources, uint32_t rank,
                     uint32_t n_ranks, struct weight **out, struct why *why)
{
    *out = NULL;
    if (fuse != WEIGHT_PLAIN || n_sources != 1 || rank != 0 || n_ranks != 1)
        return refuse(why, STATUS_UNSUPPORTED,
                      "%s: the CUDA backend loads single whole matrices only", sources[0].name);
    struct cuda_weight *weight = calloc(1, sizeof *weight);
    if (weight == NULL)
        return refuse(why, STATUS_NO_MEMORY, "%s: no memory for %zu bytes", sources[0].name,
                      sizeof *weight);
    size_t scales_at = 0;
    int status = plan(sources, weight, &scales_at, why);
    if (status == STATUS_OK)
        status = device_alloc(device, weight->bytes, &weight->memory, why);
    if (status == STATUS_OK)
        status = upload_planes(device, weight, sources, scales_at, why);
    if (status < 0) {
        cuda_weight_free(device, (struct weight *)weight);
        return status;
    }
    weight->planes.codes = weight->memory;
    if (weight->planes.n_scales > 0)
        weight->planes.scales = (const uint16_t *)((const uint8_t *)weight->memory + scales_at);
    *out = (struct weight *)weight;
    return STATUS_OK;
}

void cuda_weight_free(struct device *device, struct weight *weight)
{
    if (weight == NULL)
        return;
    device_free(device, ((struct cuda_weight *)weight)->memory);
    free(weight);
}

struct weight_info cuda_weight_info(const struct weight *weight)
{
    const struct cuda_weight *mine = cuda_weight_of(weight);
    return (struct weight_info){
        .n_in = mine->planes.n_in,
        .n_out = mine->planes.n_out,
        .bytes = mine->bytes,
        .act_forms = mine->planes.n_scales > 0 ? ACT_BLOCKS : ACT_FLOATS,
    };
}
