/* kernels/cpu/cpu_unpack_body.h: the loader of each type, once for all widths of vectors: a block
 * of a tile as unsigned bytes and f32 scales. Behind a cpu_vector_*.h. `part` counts the vectors
 * of a line: rows VEC_ROWS * part on.
 */
#ifndef QUIRE_KERNELS_CPU_UNPACK_BODY_H
#define QUIRE_KERNELS_CPU_UNPACK_BODY_H

struct unpacked {
    vec_ints w[8];         /* rows x 4 k each, k ascending: value + offset_of(type) */
    vec_floats d[2], m[2]; /* of the halves; alike where the form has one */
};

INLINE void unpack_nibbles(const uint8_t *line, vec_ints w[8])
{
    const vec_ints low = vec_all_bytes(15);
    UNROLL(4)
    for (int g = 0; g < 4; g++) {
        vec_ints both = vec_load(line + GROUP_BYTES * g);
        w[2 * g] = vec_and(both, low);
        w[2 * g + 1] = vec_and(vec_right(both, 4), low);
    }
}

/* Two bits a code, each moved up by `shift`. */
INLINE void unpack_twos(const uint8_t *line, const int shift, vec_ints w[8])
{
    const vec_ints mask = vec_all_bytes(3 << shift);
    UNROLL(2)
    for (int p = 0; p < 2; p++) {
        vec_ints four = vec_load(line + GROUP_BYTES * p);
        UNROLL(4)
        for (int q = 0; q < 4; q++) {
            int right = 2 * q - shift;
            vec_ints moved = right >= 0 ? vec_right(four, right < 0 ? 0 : right)
                                        : vec_left(four, right < 0 ? -right : 0);
            w[4 * p + q] = vec_and(moved, mask);
        }
    }
}

/* One bit a code, as its bit `at`. */
INLINE void add_bits(const uint8_t *line, const int at, vec_ints w[8])
{
    const vec_ints mask = vec_all_bytes(1 << at);
    vec_ints bits = vec_load(line);
    UNROLL(8)
    for (int g = 0; g < 8; g++) {
        vec_ints moved = g >= at ? vec_right(bits, g < at ? 0 : g - at)
                                 : vec_left(bits, g < at ? at - g : 0);
        w[g] = vec_or(w[g], vec_and(moved, mask));
    }
}

/* Code times scale by a table a row: four products of a code of two bits stand in a row's 32 bits,
 * 4 r is where those of row r of a 128-bit lane begin. */
INLINE vec_ints scaled_codes(vec_ints products, vec_ints code)
{
    static const int8_t begins[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    return vec_look_up(products, vec_or(code, vec_all_lanes(begins)));
}

INLINE void scale_q2_k(const uint8_t *field, vec_ints w[8])
{
    UNROLL(2)
    for (int half = 0; half < 2; half++) {
        vec_ints scale = vec_and(vec_widen_bytes(field + TILE_FIELD_BYTES * half),
                                 vec_all_words(15));
        vec_ints products = vec_multiply_words(scale, vec_all_words(0x03020100));
        UNROLL(4)
        for (int g = 4 * half; g < 4 * half + 4; g++)
            w[g] = scaled_codes(products, w[g]);
    }
}

/* 128 - (code - 4) (scale - 32) modulo 256: of codes from 4 on, and of those below, four times the
 * scale less more. */
INLINE void scale_q3_k(const uint8_t *field, const uint8_t *line, vec_ints w[8])
{
    vec_ints bits = vec_load(line);
    UNROLL(2)
    for (int half = 0; half < 2; half++) {
        vec_ints scale = vec_widen_bytes(field + TILE_FIELD_BYTES * half);
        vec_ints upper = vec_subtract_bytes(vec_all_words(0xe0c0a080),
                                            vec_multiply_words(scale, vec_all_words(0x03020100)));
        vec_ints lower = vec_add_bytes(upper, vec_multiply_words(scale, vec_all_words(0x04040404)));
        lower = vec_subtract_bytes(lower, vec_all_bytes(128));
        UNROLL(4)
        for (int g = 4 * half; g < 4 * half + 4; g++)
            w[g] = vec_choose(scaled_codes(lower, w[g]), scaled_codes(upper, w[g]), bits, g);
    }
}

INLINE void look_up_all(const int8_t *table, const int offset, vec_ints w[8])
{
    vec_ints values = vec_add_bytes(vec_all_lanes(table), vec_all_bytes(offset));
    UNROLL(8)
    for (int g = 0; g < 8; g++)
        w[g] = vec_look_up(values, w[g]);
}

/* The codes of Q2_K and Q3_K as the file has them, without their small scales. */
INLINE void unpack_bare_codes(const uint32_t type, const struct cpu_tile_place *at, int part,
                              vec_ints w[8])
{
    const uint8_t *line = at->block + VEC_BYTES * part;
    unpack_twos(line, 0, w);
    if (type == TENSOR_Q3_K)
        add_bits(line + TILE_TWOS_BYTES, 2, w);
}

INLINE void unpack_codes(const uint32_t type, const struct cpu_tile_place *at, int part,
                         vec_ints w[8])
{
    const uint8_t *line = at->block + VEC_BYTES * part, *field = at->field + VEC_ROWS * part;
    if (type == TENSOR_Q8_0) {
        UNROLL(8)
        for (int g = 0; g < 8; g++)
            w[g] = vec_load(line + GROUP_BYTES * g);
        return;
    }
    if (type == TENSOR_Q2_K || type == TENSOR_Q3_K) {
        unpack_twos(line, 0, w);
        if (type == TENSOR_Q2_K)
            scale_q2_k(field, w);
        else
            scale_q3_k(field, line + TILE_TWOS_BYTES, w);
        return;
    }
    unpack_nibbles(line, w);
    if (type == TENSOR_Q5_0 || type == TENSOR_Q5_1 || type == TENSOR_Q5_K)
        add_bits(line + TILE_NIBBLES_BYTES, 4, w);
    if (type == TENSOR_Q6_K) {
        vec_ints high[8];
        unpack_twos(line + TILE_NIBBLES_BYTES, 4, high);
        UNROLL(8)
        for (int g = 0; g < 8; g++)
            w[g] = vec_or(w[g], high[g]);
    }
    if (type == TENSOR_IQ4_NL || type == TENSOR_IQ4_XS)
        look_up_all(tensor_block_iq4, 128, w);
    if (type == TENSOR_MXFP4)
        look_up_all(tensor_block_mxfp4, 16, w);
}

/* 2^(e - 128), which may be denormal: the exact product of two powers that are not. */
INLINE vec_floats half_powers(const uint8_t *front)
{
    vec_ints e = vec_widen_bytes(front), half = vec_right_words(e, 1);
    vec_ints rest = vec_subtract_words(e, half), bias = vec_all_words(0u - 63u);
    return vec_multiply(vec_as_floats(vec_left_words(vec_subtract_words(half, bias), 23)),
                        vec_as_floats(vec_left_words(vec_subtract_words(rest, bias), 23)));
}

INLINE void unpack_scales(const uint32_t type, const struct cpu_tile_place *at, int part,
                          struct unpacked *out)
{
    const struct cpu_tile_layout layout = cpu_tile_layout(type);
    const uint8_t *d = at->front, *field = at->field + VEC_ROWS * part;
    if (type == TENSOR_MXFP4) {
        out->d[0] = out->d[1] = out->m[0] = out->m[1] = half_powers(d + VEC_ROWS * part);
        return;
    }
    if (layout.head_bytes > 0)
        d = at->head;
    else if (layout.front_bytes == 0)
        d = at->block + layout.block_bytes - 2 * TILE_SCALES_BYTES;
    vec_floats scale = vec_load_halves(d + 2 * VEC_ROWS * part), minimum = scale;
    if (type == TENSOR_Q4_1 || type == TENSOR_Q5_1 || type == TENSOR_Q2_K || type == TENSOR_Q4_K ||
        type == TENSOR_Q5_K)
        minimum = vec_load_halves(d + TILE_SCALES_BYTES + 2 * VEC_ROWS * part);
    out->d[0] = out->d[1] = scale;
    out->m[0] = out->m[1] = minimum;
    switch (type) {
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        out->d[0] = vec_multiply(scale, vec_to_float(vec_widen_bytes(field)));
        out->m[0] = vec_negate(
            vec_multiply(minimum, vec_to_float(vec_widen_bytes(field + TILE_FIELD_BYTES))));
        out->d[1] = out->d[0];
        out->m[1] = out->m[0];
        break;
    case TENSOR_IQ4_XS:
        out->d[0] = out->d[1] = vec_multiply(
            scale, vec_to_float(vec_subtract_words(vec_widen_bytes(field), vec_all_words(32))));
        break;
    case TENSOR_Q6_K:
        for (int half = 0; half < 2; half++)
            out->d[half] = vec_multiply(
                scale, vec_to_float(vec_widen_signed(field + TILE_FIELD_BYTES * half)));
        break;
    case TENSOR_Q3_K:
        out->d[0] = out->d[1] = vec_negate(scale);
        break;
    case TENSOR_Q2_K:
        for (int half = 0; half < 2; half++)
            out->m[half] = vec_negate(vec_multiply(
                minimum, vec_to_float(vec_right_words(
                             vec_widen_bytes(field + TILE_FIELD_BYTES * half), 4))));
        break;
    }
}

INLINE void unpack_block(const uint32_t type, const struct cpu_tile_place *at, int part,
                         struct unpacked *out)
{
    unpack_codes(type, at, part, out->w);
    unpack_scales(type, at, part, out);
}

/* The exact values of a block, [32] of VEC_ROWS rows, `stride` floats apart: as the file's formula
 * rounds. */
INLINE void unpack_values(const uint32_t type, const struct cpu_tile_place *at, int part, float *to,
                          const size_t stride)
{
    struct unpacked block;
    unpack_block(type, at, part, &block);
    const bool has_minimum =
        cpu_form_of(type) == FORM_ONE_MINIMUM || cpu_form_of(type) == FORM_ONE_TWO_MINIMA;
    UNROLL(8)
    for (int g = 0; g < 8; g++) {
        UNROLL(4)
        for (int j = 0; j < 4; j++) {
            vec_floats value = vec_multiply(block.d[g / 4],
                                            vec_byte_to_float(block.w[g], j, offset_of(type)));
            if (has_minimum)
                value = vec_add(value, block.m[g / 4]);
            vec_store_floats(to + (size_t)(4 * g + j) * stride, value);
        }
    }
}

/* n values of 16-bit floats from value k on, the same way. */
INLINE void unpack_halves(const uint32_t type, const uint8_t *tile, size_t k, size_t n, int part,
                          float *to, const size_t stride)
{
    const uint8_t *from = tile + k * TILE_ROWS * 2 + 2 * VEC_ROWS * (size_t)part;
    for (size_t i = 0; i < n; i++, from += TILE_ROWS * 2)
        vec_store_floats(to + i * stride, type == TENSOR_F16 ? vec_load_halves(from)
                                                             : vec_load_brains(from));
}

/* Bytes w[4g + j] of rows as signed 16-bit pairs (w[4g], w[4g + 1]) and (w[4g + 2], w[4g + 3]), the
 * offset taken off. */
INLINE void widen_pairs(vec_ints bytes, const int offset, vec_ints out[2])
{
    static const int8_t order[2][16] = { /* negative: a zero */
        {0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1},
        {2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1}};
    const vec_ints less = vec_all_words((uint32_t)offset * 0x10001);
    for (int i = 0; i < 2; i++)
        out[i] = vec_subtract_pairs(vec_look_up(bytes, vec_all_lanes(order[i])), less);
}

/* The scales of a half of a block of FORM_TWO, as they stand and in both pairs of a row's 32
 * bits. */
INLINE vec_ints group_scales(const uint8_t *field, const int half)
{
    return vec_widen_signed(field + TILE_FIELD_BYTES * half);
}

INLINE vec_ints group_scale_pairs(const uint8_t *field, const int half)
{
    vec_ints scale = group_scales(field, half);
    return vec_or(vec_and(scale, vec_all_words(0xffff)), vec_left_words(scale, 16));
}

/* d of a group of FORM_TWO. */
INLINE vec_floats group_d(const struct cpu_tile_place *at, int part)
{
    return vec_load_halves(at->head + 2 * VEC_ROWS * part);
}

#endif
