/* Where each lane holds what of a matrix, for every instruction that spreads one over a warp,
 * against tables written down from the PTX manual's figures and not computed.
 */
#include "tests/cuda_on_cpu/cuda_test.h"

#define LANES WARP_LANES

/* Lane of element (row, column) of an 8x8 tile of 16-bit values; two neighbours a register. */
static const int tile_lane[8][8] = {
    {0, 0, 1, 1, 2, 2, 3, 3},         {4, 4, 5, 5, 6, 6, 7, 7},
    {8, 8, 9, 9, 10, 10, 11, 11},     {12, 12, 13, 13, 14, 14, 15, 15},
    {16, 16, 17, 17, 18, 18, 19, 19}, {20, 20, 21, 21, 22, 22, 23, 23},
    {24, 24, 25, 25, 26, 26, 27, 27}, {28, 28, 29, 29, 30, 30, 31, 31},
};

/* Lane of (row, group of k) of the A operand; a group is what one register holds: two 16-bit values
 * or four 8-bit ones. */
static const int a_lane[16][8] = {
    {0, 1, 2, 3, 0, 1, 2, 3},         {4, 5, 6, 7, 4, 5, 6, 7},
    {8, 9, 10, 11, 8, 9, 10, 11},     {12, 13, 14, 15, 12, 13, 14, 15},
    {16, 17, 18, 19, 16, 17, 18, 19}, {20, 21, 22, 23, 20, 21, 22, 23},
    {24, 25, 26, 27, 24, 25, 26, 27}, {28, 29, 30, 31, 28, 29, 30, 31},
    {0, 1, 2, 3, 0, 1, 2, 3},         {4, 5, 6, 7, 4, 5, 6, 7},
    {8, 9, 10, 11, 8, 9, 10, 11},     {12, 13, 14, 15, 12, 13, 14, 15},
    {16, 17, 18, 19, 16, 17, 18, 19}, {20, 21, 22, 23, 20, 21, 22, 23},
    {24, 25, 26, 27, 24, 25, 26, 27}, {28, 29, 30, 31, 28, 29, 30, 31},
};
static const int a_register[16][8] = {
    {0, 0, 0, 0, 2, 2, 2, 2}, {0, 0, 0, 0, 2, 2, 2, 2}, {0, 0, 0, 0, 2, 2, 2, 2},
    {0, 0, 0, 0, 2, 2, 2, 2}, {0, 0, 0, 0, 2, 2, 2, 2}, {0, 0, 0, 0, 2, 2, 2, 2},
    {0, 0, 0, 0, 2, 2, 2, 2}, {0, 0, 0, 0, 2, 2, 2, 2}, {1, 1, 1, 1, 3, 3, 3, 3},
    {1, 1, 1, 1, 3, 3, 3, 3}, {1, 1, 1, 1, 3, 3, 3, 3}, {1, 1, 1, 1, 3, 3, 3, 3},
    {1, 1, 1, 1, 3, 3, 3, 3}, {1, 1, 1, 1, 3, 3, 3, 3}, {1, 1, 1, 1, 3, 3, 3, 3},
    {1, 1, 1, 1, 3, 3, 3, 3},
};

/* Lane of (group of k, column) of the B operand. */
static const int b_lane[8][8] = {
    {0, 4, 8, 12, 16, 20, 24, 28}, {1, 5, 9, 13, 17, 21, 25, 29},
    {2, 6, 10, 14, 18, 22, 26, 30}, {3, 7, 11, 15, 19, 23, 27, 31},
    {0, 4, 8, 12, 16, 20, 24, 28}, {1, 5, 9, 13, 17, 21, 25, 29},
    {2, 6, 10, 14, 18, 22, 26, 30}, {3, 7, 11, 15, 19, 23, 27, 31},
};
static const int b_register[8] = {0, 0, 0, 0, 1, 1, 1, 1};

/* Register of (row, column) of C and D; the lane is that of the 8x8 tile. */
static const int d_register[16][8] = {
    {0, 1, 0, 1, 0, 1, 0, 1}, {0, 1, 0, 1, 0, 1, 0, 1}, {0, 1, 0, 1, 0, 1, 0, 1},
    {0, 1, 0, 1, 0, 1, 0, 1}, {0, 1, 0, 1, 0, 1, 0, 1}, {0, 1, 0, 1, 0, 1, 0, 1},
    {0, 1, 0, 1, 0, 1, 0, 1}, {0, 1, 0, 1, 0, 1, 0, 1}, {2, 3, 2, 3, 2, 3, 2, 3},
    {2, 3, 2, 3, 2, 3, 2, 3}, {2, 3, 2, 3, 2, 3, 2, 3}, {2, 3, 2, 3, 2, 3, 2, 3},
    {2, 3, 2, 3, 2, 3, 2, 3}, {2, 3, 2, 3, 2, 3, 2, 3}, {2, 3, 2, 3, 2, 3, 2, 3},
    {2, 3, 2, 3, 2, 3, 2, 3},
};

/* --- mma --- */

enum operand { F16, BF16, S8, E4M3 };

struct mma_case {
    uint32_t a[LANES][4], b[LANES][2];
    float d[LANES][4]; /* in and out */
};

template <enum operand type> static __global__ void multiply(struct mma_case *cases, int n)
{
    uint32_t lane = lane_idx();
    for (int i = 0; i < n; i++) {
        uint32_t a[4], b[2];
        for (int j = 0; j < 4; j++)
            a[j] = cases[i].a[lane][j];
        for (int j = 0; j < 2; j++)
            b[j] = cases[i].b[lane][j];
        float d[4];
        for (int j = 0; j < 4; j++)
            d[j] = cases[i].d[lane][j];
        if (type == F16) {
            mma_f16(d, a, b);
        } else if (type == BF16) {
            mma_bf16(d, a, b);
        } else if (type == E4M3) {
            mma_e4m3(d, a, b);
        } else {
            int32_t whole[4];
            for (int j = 0; j < 4; j++)
                whole[j] = (int32_t)d[j];
            mma_s8(whole, a, b);
            for (int j = 0; j < 4; j++)
                d[j] = (float)whole[j];
        }
        for (int j = 0; j < 4; j++)
            cases[i].d[lane][j] = d[j];
    }
}

static int values_a_register(enum operand type)
{
    return type == F16 || type == BF16 ? 2 : 4;
}

/* The code of the small number i + 1, or for e4m3 of the i-th number from an eighth upwards, and
 * what it is worth. */
static uint32_t code_of(enum operand type, int i)
{
    static const uint32_t f16[] = {0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700, 0x4800,
                                   0x4880, 0x4900, 0x4980, 0x4a00, 0x4a80, 0x4b00, 0x4b80, 0x4c00};
    static const uint32_t bf16[] = {0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100,
                                    0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170, 0x4180};
    switch (type) {
    case F16:
        return f16[i];
    case BF16:
        return bf16[i];
    case S8:
        return (uint32_t)i + 1;
    default:
        return 0x20 + (uint32_t)i;
    }
}

static float worth_of(enum operand type, int i)
{
    if (type != E4M3)
        return (float)(i + 1);
    return (8.0f + (float)(i % 8)) * (float)(1 << i / 8) / 64.0f; /* exponents from 2^-3 */
}

static uint32_t one_of(enum operand type)
{
    return type == E4M3 ? 0x38 : code_of(type, 0);
}

static void put(uint32_t *reg, enum operand type, int i, uint32_t code)
{
    *reg |= code << (type == F16 || type == BF16 ? 16 * i : 8 * i);
}

/* A holds a single one, at (row, k); B holds at (k, column) a number that tells k, or column. D
 * must be B's row k at `row`, and what it was everywhere else. */
static void one_hot(struct mma_case *one, enum operand type, int row, int k, bool tell_column)
{
    int wide = values_a_register(type);
    *one = {};
    put(&one->a[a_lane[row][k / wide]][a_register[row][k / wide]], type, k % wide, one_of(type));
    for (int kk = 0; kk < 8 * wide; kk++)
        for (int column = 0; column < 8; column++)
            put(&one->b[b_lane[kk / wide][column]][b_register[kk / wide]], type, kk % wide,
                code_of(type, tell_column ? column : kk));
    for (int lane = 0; lane < LANES; lane++)
        for (int j = 0; j < 4; j++)
            one->d[lane][j] = 1000.0f;
}

static void check_one_hot(const struct mma_case *one, enum operand type, int row, int k,
                          bool tell_column)
{
    for (int r = 0; r < 16; r++)
        for (int column = 0; column < 8; column++) {
            float want = 1000.0f;
            if (r == row)
                want += worth_of(type, tell_column ? column : k);
            float got = one->d[tile_lane[r % 8][column]][d_register[r][column]];
            if (!(got == want)) {
                print_error("A one at (%d, %d): D(%d, %d) is %g, not %g\n", row, k, r, column,
                            (double)got, (double)want);
                fail();
            }
        }
}

template <enum operand type> static void check_mma(void)
{
    int n_k = 8 * values_a_register(type);
    std::vector<struct mma_case> cases(16 * (size_t)n_k * 2);
    for (size_t i = 0; i < cases.size(); i++)
        one_hot(&cases[i], type, (int)i / 2 / n_k, (int)i / 2 % n_k, i % 2 == 1);
    device_array<struct mma_case> device(cases);
    expect_success(launch(multiply<type>, 1, LANES, 0, NULL, device.at, (int)cases.size()));
    cases = device.read();
    for (size_t i = 0; i < cases.size(); i++)
        check_one_hot(&cases[i], type, (int)i / 2 / n_k, (int)i / 2 % n_k, i % 2 == 1);
}

static int device_sm(void)
{
    struct cudaDeviceProp properties;
    expect_success(cudaGetDeviceProperties(&properties, 0));
    return properties.major * 10 + properties.minor;
}

static void test_layout__mma_f16(void **)
{
    check_mma<F16>();
}

static void test_layout__mma_bf16(void **)
{
    check_mma<BF16>();
}

static void test_layout__mma_s8(void **)
{
    check_mma<S8>();
}

static void test_layout__mma_e4m3(void **)
{
    if (device_sm() < 89)
        skip_because("layout of mma e4m3", "it needs compute capability 8.9");
    check_mma<E4M3>();
}

/* --- ldmatrix and stmatrix --- */

/* Row i of tile t stands at an unlikely place: rows are where the lanes say, not side by side. */
static __device__ __forceinline__ uint32_t place_of_row(uint32_t row)
{
    return row * 13 % 32;
}

struct tiles {
    uint16_t value[32][8]; /* by tile and row */
};

template <int n_tiles, bool transposed>
static __global__ void load_tiles(const struct tiles *in, uint32_t *out)
{
    SHARED(struct tiles, tiles);
    uint32_t lane = lane_idx();
    for (int i = 0; i < 8; i++)
        tiles.value[place_of_row(lane)][i] = in->value[lane][i];
    __syncwarp();
    uint32_t r[n_tiles];
    const void *row = tiles.value[place_of_row(lane)];
    if constexpr (n_tiles == 1 && !transposed)
        ldmatrix_x1(r, row);
    else if constexpr (n_tiles == 2 && !transposed)
        ldmatrix_x2(r, row);
    else if constexpr (n_tiles == 4 && !transposed)
        ldmatrix_x4(r, row);
    else if constexpr (n_tiles == 1)
        ldmatrix_x1_trans(r, row);
    else if constexpr (n_tiles == 2)
        ldmatrix_x2_trans(r, row);
    else
        ldmatrix_x4_trans(r, row);
    for (int t = 0; t < n_tiles; t++)
        out[lane * n_tiles + t] = r[t];
}

template <int n_tiles, bool transposed>
static __global__ void store_tiles(const uint32_t *in, struct tiles *out)
{
    SHARED(struct tiles, tiles);
    uint32_t lane = lane_idx();
    uint32_t r[n_tiles];
    for (int t = 0; t < n_tiles; t++)
        r[t] = in[lane * n_tiles + t];
    void *row = tiles.value[place_of_row(lane)];
    if constexpr (n_tiles == 1)
        stmatrix_x1(row, r);
    else if constexpr (n_tiles == 2)
        stmatrix_x2(row, r);
    else if constexpr (!transposed)
        stmatrix_x4(row, r);
    else
        stmatrix_x4_trans(row, r);
    __syncwarp();
    for (int i = 0; i < 8; i++)
        if (lane < 8 * n_tiles)
            out->value[lane][i] = tiles.value[place_of_row(lane)][i];
}

/* Every value tells where it stands. */
static struct tiles numbered_tiles(void)
{
    struct tiles tiles;
    for (int row = 0; row < 32; row++)
        for (int column = 0; column < 8; column++)
            tiles.value[row][column] = (uint16_t)(100 * row + column);
    return tiles;
}

/* What the register half of (tile, row, column) must hold, and where it stands. */
static uint16_t half_of(const std::vector<uint32_t> &registers, int n_tiles, int tile, int row,
                        int column)
{
    uint32_t whole = registers[(size_t)(tile_lane[row][column] * n_tiles + tile)];
    return (uint16_t)(whole >> 16 * (column % 2));
}

template <int n_tiles, bool transposed> static void check_load(void)
{
    device_array<struct tiles> in(std::vector<struct tiles>{numbered_tiles()});
    device_array<uint32_t> out(LANES * n_tiles);
    expect_success(launch(load_tiles<n_tiles, transposed>, 1, LANES, 0, NULL, in.at, out.at));
    std::vector<uint32_t> registers = out.read();
    for (int t = 0; t < n_tiles; t++)
        for (int row = 0; row < 8; row++)
            for (int column = 0; column < 8; column++)
                assert_int_equal(half_of(registers, n_tiles, t, row, column),
                                 transposed ? 100 * (8 * t + column) + row
                                            : 100 * (8 * t + row) + column);
}

template <int n_tiles, bool transposed> static void check_store(void)
{
    std::vector<uint32_t> registers(LANES * n_tiles);
    for (int t = 0; t < n_tiles; t++)
        for (int row = 0; row < 8; row++)
            for (int column = 0; column < 8; column++)
                registers[(size_t)(tile_lane[row][column] * n_tiles + t)] |=
                    (uint32_t)(100 * (8 * t + row) + column) << 16 * (column % 2);
    device_array<uint32_t> in(registers);
    device_array<struct tiles> out(1);
    expect_success(launch(store_tiles<n_tiles, transposed>, 1, LANES, 0, NULL, in.at, out.at));
    struct tiles got = out.read()[0];
    for (int row = 0; row < 8 * n_tiles; row++)
        for (int column = 0; column < 8; column++)
            assert_int_equal(got.value[row][column],
                             transposed ? 100 * (row / 8 * 8 + column) + row % 8
                                        : 100 * row + column);
}

static void test_layout__ldmatrix(void **)
{
    check_load<1, false>();
    check_load<2, false>();
    check_load<4, false>();
}

static void test_layout__ldmatrix_transposed(void **)
{
    check_load<1, true>();
    check_load<2, true>();
    check_load<4, true>();
}

static void test_layout__stmatrix(void **)
{
    if (device_sm() < 90)
        skip_because("layout of stmatrix", "it needs compute capability 9.0");
    check_store<1, false>();
    check_store<2, false>();
    check_store<4, false>();
    check_store<4, true>();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout__mma_f16),
        cmocka_unit_test(test_layout__mma_bf16),
        cmocka_unit_test(test_layout__mma_s8),
        cmocka_unit_test(test_layout__mma_e4m3),
        cmocka_unit_test(test_layout__ldmatrix),
        cmocka_unit_test(test_layout__ldmatrix_transposed),
        cmocka_unit_test(test_layout__stmatrix),
    };
    return run_cuda_tests("layout", tests, sizeof tests / sizeof tests[0]);
}
