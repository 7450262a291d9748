// Attention of short texts in fp32 where they lie, without gathers and without padding: forward and back, a text and a
// head at a time in memory that stays in the first caches. Called by `kernels.py`.
//
// l tokens of a text, d width of a head; both are rounded up to whole registers (L, D) in the buffers, and zero there.
#include "numbers.hpp"

constexpr int LONGEST = 64, WIDEST = 64;

struct Buffers {
    alignas(64) float query[LONGEST][WIDEST], key[LONGEST][WIDEST], value[LONGEST][WIDEST], given[LONGEST][WIDEST];
    alignas(64) float turned[WIDEST][LONGEST], turned_value[WIDEST][LONGEST];
    alignas(64) float weights[LONGEST][LONGEST], scores[LONGEST][LONGEST], result[LONGEST][WIDEST];
};

// ROWS rows of result[m][n] = sum over k of left(m, k) * right[k][n], n in NV registers; left(m, k) = left[m down + k over].
template <int ROWS, int NV>
static inline void block(float *result, const float *left, int down, int over, const float *right, int terms) {
    Vector sums[ROWS][NV] = {};
    for (int k = 0; k < terms; k++) {
        Vector row[NV];
#pragma GCC unroll 8
        for (int n = 0; n < NV; n++) row[n] = read_vector(right + k * LONGEST + n * W);
#pragma GCC unroll 8
        for (int m = 0; m < ROWS; m++) {
            const float factor = left[m * down + k * over];
#pragma GCC unroll 8
            for (int n = 0; n < NV; n++) sums[m][n] += factor * row[n];
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 8
        for (int n = 0; n < NV; n++) write_vector(result + m * LONGEST + n * W, sums[m][n]);
}

template <int NV>
static void rows_of(float *result, const float *left, int down, int over, const float *right, int rows, int terms) {
    constexpr int REGISTERS = W == 16 ? 24 : 12;  // of 32 and 16: the others hold a row and a factor
    constexpr int FEW = REGISTERS / NV;
    constexpr int ROWS = FEW >= 8 ? 8 : FEW >= 6 ? 6 : FEW >= 4 ? 4 : FEW >= 2 ? 2 : 1;
    int m = 0;
    for (; m + ROWS <= rows; m += ROWS)
        block<ROWS, NV>(result + m * LONGEST, left + m * down, down, over, right, terms);
    for (; m < rows; m++) block<1, NV>(result + m * LONGEST, left + m * down, down, over, right, terms);
}

// Every matrix has LONGEST (= WIDEST) numbers from one row to the next.
static void product(float *result, const float *left, bool is_turned, const float *right, int rows, int terms,
                    int columns) {
    const int down = is_turned ? 1 : LONGEST, over = is_turned ? LONGEST : 1;
    switch (columns / W) {
        case 1: return rows_of<1>(result, left, down, over, right, rows, terms);
        case 2: return rows_of<2>(result, left, down, over, right, rows, terms);
        case 3: return rows_of<3>(result, left, down, over, right, rows, terms);
        case 4: return rows_of<4>(result, left, down, over, right, rows, terms);
        case 5: return rows_of<5>(result, left, down, over, right, rows, terms);
        case 6: return rows_of<6>(result, left, down, over, right, rows, terms);
        case 7: return rows_of<7>(result, left, down, over, right, rows, terms);
        case 8: return rows_of<8>(result, left, down, over, right, rows, terms);
    }
}

static_assert(LONGEST == WIDEST && LONGEST / 8 <= 8, "one stride, at most eight registers a row");

static inline int rounded(int count) { return (count + W - 1) / W * W; }

// The rows of a text, with zeros up to whole registers in both directions.
static inline void fetch(float to[][WIDEST], const float *from, int64_t stride, int l, int d) {
    for (int i = 0; i < l; i++) {
        int c = 0;
        for (; c + W <= d; c += W) write_vector(to[i] + c, read_vector(from + i * stride + c));
        for (; c < d; c++) to[i][c] = from[i * stride + c];
        for (; c < rounded(d); c++) to[i][c] = 0.0f;
    }
    for (int i = l; i < rounded(l); i++)
        for (int c = 0; c < rounded(d); c += W) write_vector(to[i] + c, Vector{});
}

static inline void deliver(float *to, const float from[][WIDEST], int64_t stride, int l, int d) {
    for (int i = 0; i < l; i++) {
        int c = 0;
        for (; c + W <= d; c += W) write_vector(to + i * stride + c, read_vector(from[i] + c));
        for (; c < d; c++) to[i * stride + c] = from[i][c];
    }
}

typedef float Eight __attribute__((vector_size(32), aligned(4)));
typedef int32_t Order __attribute__((vector_size(32)));

// Rows i to i + 7 and columns c to c + 7, transposed by shuffles: one by one they took longer than the products.
static inline void turn_block(float to[][LONGEST], const float from[][WIDEST], int i, int c) {
    Eight row[8], pair[8], four[8];
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) row[k] = *(const Eight *)(from[i + k] + c);
#pragma GCC unroll 4
    for (int k = 0; k < 8; k += 2) {
        pair[k] = __builtin_shuffle(row[k], row[k + 1], (Order){0, 8, 1, 9, 4, 12, 5, 13});
        pair[k + 1] = __builtin_shuffle(row[k], row[k + 1], (Order){2, 10, 3, 11, 6, 14, 7, 15});
    }
#pragma GCC unroll 2
    for (int k = 0; k < 8; k += 4)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            four[k + 2 * h] =
                __builtin_shuffle(pair[k + h], pair[k + 2 + h], (Order){0, 1, 8, 9, 4, 5, 12, 13});
            four[k + 2 * h + 1] =
                __builtin_shuffle(pair[k + h], pair[k + 2 + h], (Order){2, 3, 10, 11, 6, 7, 14, 15});
        }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        *(Eight *)(to[c + k] + i) = __builtin_shuffle(four[k], four[k + 4], (Order){0, 1, 2, 3, 8, 9, 10, 11});
        *(Eight *)(to[c + k + 4] + i) = __builtin_shuffle(four[k], four[k + 4], (Order){4, 5, 6, 7, 12, 13, 14, 15});
    }
}

// Columns from l on become zero up to whole registers, as the rows they come from are.
static inline void turn(float to[][LONGEST], const float from[][WIDEST], int l, int d) {
    for (int i = 0; i < rounded(l); i += 8)
        for (int c = 0; c < d; c += 8) turn_block(to, from, i, c);
}

static inline float sum_of(Vector values) {
    float sum = 0.0f;
    for (int i = 0; i < W; i++) sum += values[i];
    return sum;
}

// weights = softmax(scale * query key'), zero from l on.
static void attend_weights(Buffers &at, int l, int d, float scale) {
    const int L = rounded(l);
    turn(at.turned, at.key, l, d);
    product(&at.weights[0][0], &at.query[0][0], false, &at.turned[0][0], l, d, L);
    for (int i = 0; i < l; i++) {
        float *row = at.weights[i];
        for (int j = l; j < L; j++) row[j] = -__builtin_inff();
        Vector most = read_vector(row);
        for (int j = W; j < L; j += W) {
            const Vector next = read_vector(row + j);
            most = next > most ? next : most;
        }
        float largest = most[0];
        for (int k = 1; k < W; k++) largest = most[k] > largest ? most[k] : largest;
        Vector sums = {};
        for (int j = 0; j < L; j += W) {
            const Vector score = read_vector(row + j);
            Vector weight = exp_of_negative<Vector, Bits>((score - largest) * scale);
            weight = score == -__builtin_inff() ? Vector{} : weight;
            write_vector(row + j, weight);
            sums += weight;
        }
        const float over = 1.0f / sum_of(sums);
        for (int j = 0; j < L; j += W) write_vector(row + j, read_vector(row + j) * over);
    }
}

EXPORTED void attend(const float *qkv, const int32_t *starts, float *context, int64_t texts, int heads, int d,
                   int threads) {
    const int64_t width = int64_t(heads) * d;
    const float scale = 1.0f / __builtin_sqrtf(float(d));
#pragma omp parallel num_threads(threads)
    {
        Buffers at;
#pragma omp for schedule(dynamic, 4)
        for (int64_t item = 0; item < texts * heads; item++) {
            const int64_t start = starts[item / heads], column = item % heads * d;
            const int l = int(starts[item / heads + 1] - start);
            const float *from = qkv + start * 3 * width + column;
            fetch(at.query, from, 3 * width, l, d);
            fetch(at.key, from + width, 3 * width, l, d);
            fetch(at.value, from + 2 * width, 3 * width, l, d);
            attend_weights(at, l, d, scale);
            product(&at.result[0][0], &at.weights[0][0], false, &at.value[0][0], l, l, rounded(d));
            deliver(context + start * width + column, at.result, width, l, d);
        }
    }
}

EXPORTED void attend_back(const float *qkv, const int32_t *starts, const float *gradient, float *to_qkv,
                        int64_t texts, int heads, int d, int threads) {
    const int64_t width = int64_t(heads) * d;
    const float scale = 1.0f / __builtin_sqrtf(float(d));
#pragma omp parallel num_threads(threads)
    {
        Buffers at;
#pragma omp for schedule(dynamic, 4)
        for (int64_t item = 0; item < texts * heads; item++) {
            const int64_t start = starts[item / heads], column = item % heads * d;
            const int l = int(starts[item / heads + 1] - start), L = rounded(l), D = rounded(d);
            const float *from = qkv + start * 3 * width + column;
            float *to = to_qkv + start * 3 * width + column;
            fetch(at.query, from, 3 * width, l, d);
            fetch(at.key, from + width, 3 * width, l, d);
            fetch(at.value, from + 2 * width, 3 * width, l, d);
            fetch(at.given, gradient + start * width + column, width, l, d);
            attend_weights(at, l, d, scale);
            product(&at.result[0][0], &at.weights[0][0], true, &at.given[0][0], l, l, D);
            deliver(to + 2 * width, at.result, 3 * width, l, d);
            turn(at.turned_value, at.value, l, d);
            product(&at.scores[0][0], &at.given[0][0], false, &at.turned_value[0][0], l, d, L);
            for (int i = 0; i < l; i++) {
                float *row = at.scores[i];
                const float *weight = at.weights[i];
                Vector sums = {};
                for (int j = 0; j < L; j += W) sums += read_vector(weight + j) * read_vector(row + j);
                const float mean = sum_of(sums);
                for (int j = 0; j < L; j += W)
                    write_vector(row + j, read_vector(weight + j) * (read_vector(row + j) - mean) * scale);
            }
            product(&at.result[0][0], &at.scores[0][0], false, &at.key[0][0], l, l, D);
            deliver(to, at.result, 3 * width, l, d);
            product(&at.result[0][0], &at.scores[0][0], true, &at.query[0][0], l, l, D);
            deliver(to + width, at.result, 3 * width, l, d);
        }
    }
}
