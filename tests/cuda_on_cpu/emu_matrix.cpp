#include "tests/cuda_on_cpu/emu_matrix.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <string.h>

#include "tests/cuda_on_cpu/emu_sanitizer.h"
#include "tests/cuda_on_cpu/emu_warp.h"

#define TILE 8
#define ROW_BYTES 16

/* --- ldmatrix and stmatrix --- */

struct tiles_record {
    char *row;             /* of this lane, in shared memory */
    uint32_t *registers;
};

/* Calls with (row address of tile t's row i, element) what each lane's register half stands for. */
template <bool transposed, bool store, int tiles>
static void move_tiles(void *const *records, uint32_t)
{
    for (int lane = 0; lane < EMU_WARP_LANES; lane++) {
        struct tiles_record *mine = (struct tiles_record *)records[lane];
        for (int t = 0; t < tiles; t++) {
            for (int part = 0; part < 2; part++) {
                int row = lane / 4, column = 2 * (lane % 4) + part;
                if (transposed) {
                    int swapped = row;
                    row = column;
                    column = swapped;
                }
                char *base = ((struct tiles_record *)records[t * TILE + row])->row;
                char *value = base + 2 * column;
                char *mine_part = (char *)&mine->registers[t] + 2 * part;
                if (store)
                    memcpy(value, mine_part, 2);
                else
                    memcpy(mine_part, value, 2);
            }
        }
    }
}

static const struct emu_warp_kind loads[2][3] = {
    {{"ldmatrix.x1", move_tiles<false, false, 1>, false},
     {"ldmatrix.x2", move_tiles<false, false, 2>, false},
     {"ldmatrix.x4", move_tiles<false, false, 4>, false}},
    {{"ldmatrix.x1.trans", move_tiles<true, false, 1>, false},
     {"ldmatrix.x2.trans", move_tiles<true, false, 2>, false},
     {"ldmatrix.x4.trans", move_tiles<true, false, 4>, false}},
};
static const struct emu_warp_kind stores[2][3] = {
    {{"stmatrix.x1", move_tiles<false, true, 1>, false},
     {"stmatrix.x2", move_tiles<false, true, 2>, false},
     {"stmatrix.x4", move_tiles<false, true, 4>, false}},
    {{"stmatrix.x1.trans", move_tiles<true, true, 1>, false},
     {"stmatrix.x2.trans", move_tiles<true, true, 2>, false},
     {"stmatrix.x4.trans", move_tiles<true, true, 4>, false}},
};

/* Whether this lane's address is used. */
static bool names_a_row(int tiles)
{
    return (int)emu_current->lane < tiles * TILE;
}

static void check_row(const void *row, struct emu_site site)
{
    if ((uintptr_t)row % ROW_BYTES != 0)
        emu_fault(site, "misaligned address: a matrix row at %p, not a multiple of 16", row);
}

void emu_ldmatrix(uint32_t *registers, int tiles, bool transposed, const void *row,
                  struct emu_site site)
{
    struct tiles_record record = {(char *)const_cast<void *>(row), registers};
    if (names_a_row(tiles)) {
        check_row(row, site);
        emu_note_read(row, ROW_BYTES);
    }
    emu_warp_meet(&loads[transposed][tiles / 2], ~0u, &record, site);
}

void emu_stmatrix(void *row, int tiles, bool transposed, const uint32_t *registers,
                  struct emu_site site)
{
    struct tiles_record record = {(char *)row, const_cast<uint32_t *>(registers)};
    if (names_a_row(tiles)) {
        check_row(row, site);
        emu_note_write(row, ROW_BYTES);
    }
    emu_warp_meet(&stores[transposed][tiles / 2], ~0u, &record, site);
}

/* --- mma --- */

struct mma_record {
    void *d;
    const uint32_t *a, *b;
};

static double f16_value(const uint32_t *registers, int i)
{
    __half_raw raw;
    raw.x = (unsigned short)(registers[i / 2] >> (16 * (i % 2)));
    return (double)__half2float(__half(raw));
}

static double bf16_value(const uint32_t *registers, int i)
{
    __nv_bfloat16_raw raw;
    raw.x = (unsigned short)(registers[i / 2] >> (16 * (i % 2)));
    return (double)__bfloat162float(__nv_bfloat16(raw));
}

static double e4m3_value(const uint32_t *registers, int i)
{
    __nv_fp8_storage_t byte = (__nv_fp8_storage_t)(registers[i / 4] >> (8 * (i % 4)));
    return (double)__half2float(__half(__nv_cvt_fp8_to_halfraw(byte, __NV_E4M3)));
}

static double s8_value(const uint32_t *registers, int i)
{
    return (double)(int8_t)(registers[i / 4] >> (8 * (i % 4)));
}

/* Gathers A (16 x k) and B (8 columns x k) out of the lanes' registers. `wide` values of one
 * register lie along k; value gives the i-th value of a lane's registers. */
template <int wide, double (*value)(const uint32_t *, int)>
static void gather(void *const *records, double (*a)[8 * wide], double (*b)[8 * wide])
{
    for (int lane = 0; lane < EMU_WARP_LANES; lane++) {
        const struct mma_record *mine = (const struct mma_record *)records[lane];
        int row = lane / 4, k = wide * (lane % 4);
        for (int i = 0; i < wide; i++) {
            a[row][k + i] = value(mine->a, i);
            a[row + 8][k + i] = value(mine->a, wide + i);
            a[row][k + i + 4 * wide] = value(mine->a, 2 * wide + i);
            a[row + 8][k + i + 4 * wide] = value(mine->a, 3 * wide + i);
            b[row][k + i] = value(mine->b, i);
            b[row][k + i + 4 * wide] = value(mine->b, wide + i);
        }
    }
}

/* Sums of int8 products are far below 2^53: exact in double too. */
template <class T, int wide, double (*value)(const uint32_t *, int)>
static void multiply(void *const *records, uint32_t)
{
    double a[16][8 * wide], b[8][8 * wide];
    gather<wide, value>(records, a, b);
    for (int lane = 0; lane < EMU_WARP_LANES; lane++) {
        T *d = (T *)((const struct mma_record *)records[lane])->d;
        for (int i = 0; i < 4; i++) {
            int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
            double sum = (double)d[i];
            for (int k = 0; k < 8 * wide; k++)
                sum += a[row][k] * b[column][k];
            d[i] = (T)sum;
        }
    }
}

static const struct emu_warp_kind mma_kinds[] = {
    {"mma.m16n8k16 of f16", multiply<float, 2, f16_value>, false},
    {"mma.m16n8k16 of bf16", multiply<float, 2, bf16_value>, false},
    {"mma.m16n8k32 of e4m3", multiply<float, 4, e4m3_value>, false},
    {"mma.m16n8k32 of s8", multiply<int32_t, 4, s8_value>, false},
};

void emu_mma(enum emu_mma type, void *d, const uint32_t *a, const uint32_t *b, struct emu_site site)
{
    struct mma_record record = {d, a, b};
    emu_warp_meet(&mma_kinds[type], ~0u, &record, site);
}
