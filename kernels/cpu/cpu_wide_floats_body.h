/* kernels/cpu/cpu_wide_floats_body.h: many rows with floats [k][16], for all widths of vectors. */
#ifndef QUIRE_KERNELS_CPU_WIDE_FLOATS_BODY_H
#define QUIRE_KERNELS_CPU_WIDE_FLOATS_BODY_H

#define PARTS (TILE_ROWS / VEC_ROWS)

INLINE void multiply_floats(const struct cpu_span *span, const int m)
{
    const size_t n_in = span->n_in, stride = span->row_floats;
    const size_t first = (size_t)span->begin * BLOCK_VALUES;
    const size_t last = (size_t)span->end * BLOCK_VALUES, end = last < n_in ? last : n_in;
    const float *x = (const float *)span->rows + first;
    for (int part = 0; part < PARTS; part++) {
        const float *w = (const float *)span->wide + part * VEC_ROWS;
        vec_floats acc[PANEL_ROWS];
        UNROLL(12)
        for (int i = 0; i < m; i++)
            acc[i] = vec_load_floats(span->acc + i * TILE_ROWS + part * VEC_ROWS);
        for (size_t k = 0; k < end - first; k++) {
            vec_floats value = vec_load_floats(w + k * TILE_ROWS);
            UNROLL(12)
            for (int i = 0; i < m; i++)
                acc[i] = vec_fma(value, vec_all_floats(x[i * stride + k]), acc[i]);
        }
        UNROLL(12)
        for (int i = 0; i < m; i++)
            vec_store_floats(span->acc + i * TILE_ROWS + part * VEC_ROWS, acc[i]);
    }
}

#define FLOATS_KERNEL(name, m, unused)                                                             \
    static void name##_##m(const struct cpu_span *span)                                            \
    {                                                                                              \
        multiply_floats(span, m);                                                                  \
    }
FOR_EACH_M(FLOATS_KERNEL, floats, 0)

#endif
