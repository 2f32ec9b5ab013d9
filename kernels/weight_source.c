#include "kernels/weight_source.h"
#include "base/status.h"
#include "kernels/tensor_type.h"

const char *weight_source_name(const struct weight_source *source)
{
    return source->name != NULL ? source->name : "a weight without name";
}

static int check_source(const struct weight_source *source, uint32_t n_in, struct why *why)
{
    const struct tensor_type_info *info = tensor_type_info(source->type);
    if (info == NULL)
        return refuse(why, STATUS_UNSUPPORTED,
                      "%s has the unknown tensor type %u; this build reads %s",
                      weight_source_name(source), source->type, tensor_type_read_list());
    if (!info->is_read)
        return refuse(why, STATUS_UNSUPPORTED,
                      "%s is %s, which this build cannot read; use a file whose matrices are %s",
                      weight_source_name(source), info->name, tensor_type_read_list());
    if (tensor_type_bytes(source->type, source->n_in, source->n_out) == 0)
        return refuse(why, STATUS_INVALID,
                      "%s: %u rows of %u values are not whole blocks of %s (%u values)",
                      weight_source_name(source), source->n_out, source->n_in, info->name,
                      info->block_values);
    if (source->n_in != n_in)
        return refuse(why, STATUS_INVALID,
                      "%s has rows of %u values, the matrix it is fused with %u",
                      weight_source_name(source), source->n_in, n_in);
    return STATUS_OK;
}

/* The experts of one side beside its first. */
static int check_experts(const struct weight_source *sources, uint32_t n, struct why *why)
{
    const struct weight_source *first = &sources[0];
    for (uint32_t e = 1; e < n; e++) {
        const struct weight_source *next = &sources[e];
        if (next->type != first->type || next->n_in != first->n_in || next->n_out != first->n_out)
            return refuse(why, STATUS_INVALID,
                          "%s: expert %u has %u rows of %u values of type %u, expert 0 %u of %u of "
                          "type %u",
                          weight_source_name(next), e, next->n_out, next->n_in, next->type,
                          first->n_out, first->n_in, first->type);
    }
    return STATUS_OK;
}

static int count_parts(enum weight_fuse fuse, uint32_t n_sources, struct weight_parts *out,
                       struct why *why)
{
    uint32_t n_sides = weight_fuse_is_pair(fuse) ? 2 : 1, n_experts = n_sources / n_sides;
    if (weight_fuse_has_experts(fuse)) {
        *out = (struct weight_parts){.n_experts = n_experts, .n = n_sides, .stride = n_experts};
        if (n_sources % n_sides == 0 && n_experts >= 1 && n_experts <= MODEL_EXPERTS_MAX)
            return STATUS_OK;
        return refuse(why, STATUS_INVALID, "%u matrices are not those of 1 to %d %s", n_sources,
                      MODEL_EXPERTS_MAX, fuse == WEIGHT_HEADS ? "heads" : "experts");
    }
    uint32_t least = fuse == WEIGHT_PLAIN ? 1 : 2, most = fuse == WEIGHT_QKV ? 3 : least;
    *out = (struct weight_parts){.n = n_sources, .stride = 1};
    if (n_sources < least || n_sources > most)
        return refuse(why, STATUS_INVALID,
                      "a fused weight of this kind takes %u to %u matrices, not %u", least, most,
                      n_sources);
    return STATUS_OK;
}

int weight_source_check(enum weight_fuse fuse, const struct weight_source *sources,
                        uint32_t n_sources, struct weight_parts *out, struct why *why)
{
    int status = count_parts(fuse, n_sources, out, why);
    uint64_t n_rows = 0;
    for (uint32_t i = 0; i < out->n && status == STATUS_OK; i++) {
        const struct weight_source *part = &sources[(size_t)i * out->stride];
        status = check_source(part, sources[0].n_in, why);
        if (status == STATUS_OK)
            status = check_experts(part, out->n_experts, why);
        n_rows += part->n_out;
    }
    if (status < 0)
        return status;
    if (n_rows > UINT32_MAX)
        return refuse(why, STATUS_TOO_LARGE,
                      "%s and what it is fused with have 2^32 rows or more",
                      weight_source_name(&sources[0]));
    const struct weight_source *up = &sources[out->stride];
    bool is_pair = weight_fuse_is_pair(fuse);
    if (is_pair && sources[0].n_out != up->n_out)
        return refuse(why, STATUS_INVALID,
                      "%s has %u rows, %s %u: gate and up must be of equal shape",
                      weight_source_name(&sources[0]), sources[0].n_out, weight_source_name(up),
                      up->n_out);
    out->n_out = is_pair ? sources[0].n_out : (uint32_t)n_rows;
    return STATUS_OK;
}

int weight_source_add_bytes(const struct weight_source *source, uint64_t n_tiles,
                            uint64_t tile_bytes, uint64_t *bytes, struct why *why)
{
    uint64_t more;
    if (__builtin_mul_overflow(n_tiles, tile_bytes, &more) ||
        __builtin_add_overflow(*bytes, more, bytes) || *bytes > SIZE_MAX / 2)
        return refuse(why, STATUS_TOO_LARGE, "%s: %u rows of %u values do not fit in memory",
                      weight_source_name(source), source->n_out, source->n_in);
    return STATUS_OK;
}
