// What happens to rows between the matrix products of a layer: dropout masks, activation, residual and normalisation,
// forward and back. Called by `kernels.py`, whose docstrings say what each one computes.
//
// Sums over rows (gradients of biases and of normalisation) are made by every thread for its own rows in `partial`
// [threads, sums, width] and then added up in the order of the threads: the same bits for the same number of threads.
// OpenMP may give fewer threads than were asked for (OMP_THREAD_LIMIT); what counts is how many there are.
#include <omp.h>

#include "numbers.hpp"

// Philox4x32-7 (Salmon et al. 2011, table 2: passes all of BigCrush), for LANES counters at once.
constexpr int LANES = 16;

static inline void philox(uint64_t first, uint64_t seed, uint32_t words[4][LANES]) {
    for (int lane = 0; lane < LANES; lane++) {
        words[0][lane] = uint32_t(first + lane);
        words[1][lane] = uint32_t((first + lane) >> 32);
        words[2][lane] = words[3][lane] = 0;
    }
    uint32_t key0 = uint32_t(seed), key1 = uint32_t(seed >> 32);
    for (int round = 0; round < 7; round++) {
#pragma omp simd
        for (int lane = 0; lane < LANES; lane++) {
            const uint64_t a = uint64_t(0xD2511F53u) * words[0][lane];
            const uint64_t b = uint64_t(0xCD9E8D57u) * words[2][lane];
            const uint32_t w1 = words[1][lane], w3 = words[3][lane];
            words[0][lane] = uint32_t(b >> 32) ^ w1 ^ key0;
            words[1][lane] = uint32_t(b);
            words[2][lane] = uint32_t(a >> 32) ^ w3 ^ key1;
            words[3][lane] = uint32_t(a);
        }
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

static inline void choose(float &place, bool is_kept, float kept) { place = is_kept ? kept : 0.0f; }
static inline void choose(Brain &place, bool is_kept, Brain kept) { place.bits = is_kept ? kept.bits : uint16_t(0); }

template <class Number>
static void draw_mask(Number *mask, int64_t size, uint64_t seed, uint16_t dropped, float scale,
                      int threads) {
    constexpr int DRAWS = LANES * 8;  // 16 bits decide about one value
    Number kept;
    write(kept, scale);
    const int64_t blocks = (size + DRAWS - 1) / DRAWS;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t block = 0; block < blocks; block++) {
        uint32_t words[4][LANES];
        philox(uint64_t(block) * LANES, seed, words);
        uint16_t draws[DRAWS];
        memcpy(draws, words, sizeof draws);
        Number drawn[DRAWS];
#pragma omp simd
        for (int i = 0; i < DRAWS; i++) choose(drawn[i], draws[i] >= dropped, kept);
        const int64_t begin = block * DRAWS;
        memcpy(mask + begin, drawn, sizeof(Number) * (size - begin < DRAWS ? size - begin : DRAWS));
    }
}

// kept + mask * changed in the place of `changed`; without a mask `mask` is null. Returns the sum of the row.
template <class Number, bool HAS_MASK>
static inline float add_row(Number *changed, const Number *kept, const Number *mask, int64_t width) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) {
        write(changed[i], read(kept[i]) + read(changed[i]) * (HAS_MASK ? read(mask[i]) : 1.0f));
        sum += read(changed[i]);
    }
    return sum;
}

template <class Number>
static void join(Number *total, const Number *kept, const Number *mask, const float *weight, const float *bias,
                 Number *result, float *mean, float *inverse, int64_t rows, int64_t width, float eps, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        Number *sum_D = total + row * width, *result_D = result + row * width;
        const Number *kept_D = kept + row * width;
        const float sum = mask ? add_row<Number, true>(sum_D, kept_D, mask + row * width, width)
                               : add_row<Number, false>(sum_D, kept_D, mask, width);
        const float centre = sum / float(width);
        float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
        for (int64_t i = 0; i < width; i++) {
            const float apart = read(sum_D[i]) - centre;
            squares += apart * apart;
        }
        const float over = 1.0f / __builtin_sqrtf(squares / float(width) + eps);
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            write(result_D[i], (read(sum_D[i]) - centre) * over * weight[i] + bias[i]);
        mean[row] = centre;
        inverse[row] = over;
    }
}

// Adds up what the threads have in `partial` [threads, sums, width] and writes sum `which`.
template <class Number>
static void gather_sum(Number *sum_D, const float *partial, int which, int sums, int64_t width, int team) {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < width; i++) {
        float sum = 0.0f;
        for (int thread = 0; thread < team; thread++) sum += partial[(thread * sums + which) * width + i];
        write(sum_D[i], sum);
    }
}

// One row of a normalisation: what it was made of, and the gradient that came back to its result.
template <class Number>
struct Row {
    const Number *gradient, *total;
    float centre, over;
    float normal(int64_t i) const { return (read(total[i]) - centre) * over; }
};

// Adds to the sums of the weight's and the bias's gradients; returns the means that the row's own gradient needs.
struct Means {
    float plain, along;
};

template <class Number>
static inline Means add_to_sums(const Row<Number> row, const float *weight, float *weight_sum, float *bias_sum,
                                int64_t width) {
    float plain = 0.0f, along = 0.0f;
#pragma omp simd reduction(+ : plain, along)
    for (int64_t i = 0; i < width; i++) {
        const float given = read(row.gradient[i]), normal = row.normal(i);
        weight_sum[i] += given * normal;
        bias_sum[i] += given;
        plain += given * weight[i];
        along += given * weight[i] * normal;
    }
    return {plain / float(width), along / float(width)};
}

template <class Number, bool HAS_MASK>
static inline void unjoin_row(const Row<Number> row, const Means means, const float *weight, const Number *mask,
                              Number *to_kept, Number *to_changed, float *changed_sum, int64_t width) {
#pragma omp simd
    for (int64_t i = 0; i < width; i++) {
        const float back = row.over * (read(row.gradient[i]) * weight[i] - means.plain - row.normal(i) * means.along);
        const float through = HAS_MASK ? back * read(mask[i]) : back;
        write(to_kept[i], back);
        write(to_changed[i], through);
        changed_sum[i] += through;
    }
}

template <class Number>
static void unjoin(const Number *gradient, const Number *total, const float *mean, const float *inverse,
                   const Number *mask, const float *weight, Number *to_kept, Number *to_changed, float *to_weight,
                   float *to_bias, Number *to_changed_sum, float *partial, int64_t rows, int64_t width, int threads) {
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num(), team = omp_get_num_threads();
        const Share share(rows, thread, team);
        float *weight_D = partial + thread * 3 * width, *bias_D = weight_D + width, *changed_D = bias_D + width;
        memset(weight_D, 0, sizeof(float) * 3 * width);
        for (int64_t index = share.begin; index < share.end; index++) {
            const int64_t at = index * width;
            const Row<Number> row{gradient + at, total + at, mean[index], inverse[index]};
            const Means means = add_to_sums(row, weight, weight_D, bias_D, width);
            if (mask)
                unjoin_row<Number, true>(row, means, weight, mask + at, to_kept + at, to_changed + at, changed_D,
                                         width);
            else
                unjoin_row<Number, false>(row, means, weight, mask, to_kept + at, to_changed + at, changed_D, width);
        }
#pragma omp barrier
        gather_sum(to_weight, partial, 0, 3, width, team);
        gather_sum(to_bias, partial, 1, 3, width, team);
        gather_sum(to_changed_sum, partial, 2, 3, width, team);
    }
}

// The share of a normal distribution below x, and its density there. The error of the share is below 1.5e-7
// (Abramowitz & Stegun 1964, formula 7.1.26, which PyTorch's own erf for AVX512 uses too).
struct Normal {
    float below, density;
};

static inline Normal normal_at(float x) {
    const float size = x < 0.0f ? -x : x;
    const float fall = exp_of_negative<float, uint32_t>(-0.5f * x * x);
    const float t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * size);
    float tail = 1.061405429f;
    tail = tail * t - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = tail * t + 0.254829592f;
    tail = 0.5f * tail * t * fall;
    return {x < 0.0f ? tail : 1.0f - tail, 0.39894228f * fall};
}

template <class Number>
static void gelu(const Number *x, Number *result, int64_t size, int threads) {
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < size; i++) write(result[i], read(x[i]) * normal_at(read(x[i])).below);
}

template <class Number>
static void gelu_back(Number *gradient, const Number *x, Number *sum, float *partial, int64_t rows, int64_t width,
                      int threads) {
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num(), team = omp_get_num_threads();
        const Share share(rows, thread, team);
        float *sum_N = partial + thread * width;
        memset(sum_N, 0, sizeof(float) * width);
        for (int64_t row = share.begin; row < share.end; row++) {
            Number *gradient_N = gradient + row * width;
            const Number *x_N = x + row * width;
#pragma omp simd
            for (int64_t i = 0; i < width; i++) {
                const float value = read(x_N[i]);
                const Normal normal = normal_at(value);
                const float back = read(gradient_N[i]) * (normal.below + value * normal.density);
                write(gradient_N[i], back);
                sum_N[i] += back;
            }
        }
#pragma omp barrier
        gather_sum(sum, partial, 0, 1, width, team);
    }
}

// Each kernel for both formats: NAME_fp32 and NAME_bf16.
#define FOR_BOTH(NAME, PARAMETERS, ARGUMENTS)                     \
    EXPORTED void NAME##_fp32 PARAMETERS(float) { NAME ARGUMENTS; } \
    EXPORTED void NAME##_bf16 PARAMETERS(Brain) { NAME ARGUMENTS; }

#define DRAW_MASK(N) (N * mask, int64_t size, uint64_t seed, int dropped, float scale, int threads)
FOR_BOTH(draw_mask, DRAW_MASK, (mask, size, seed, uint16_t(dropped), scale, threads))

#define JOIN(N)                                                                                                  \
    (N * total, const N *kept, const N *mask, const float *weight, const float *bias, N *result, float *mean,    \
     float *inverse, int64_t rows, int64_t width, float eps, int threads)
FOR_BOTH(join, JOIN, (total, kept, mask, weight, bias, result, mean, inverse, rows, width, eps, threads))

#define UNJOIN(N)                                                                                                \
    (const N *gradient, const N *total, const float *mean, const float *inverse, const N *mask,                  \
     const float *weight, N *to_kept, N *to_changed, float *to_weight, float *to_bias, N *to_changed_sum,        \
     float *partial, int64_t rows, int64_t width, int threads)
FOR_BOTH(unjoin, UNJOIN,
         (gradient, total, mean, inverse, mask, weight, to_kept, to_changed, to_weight, to_bias, to_changed_sum,
          partial, rows, width, threads))

#define GELU(N) (const N *x, N *result, int64_t size, int threads)
FOR_BOTH(gelu, GELU, (x, result, size, threads))

#define GELU_BACK(N) (N * gradient, const N *x, N *sum, float *partial, int64_t rows, int64_t width, int threads)
FOR_BOTH(gelu_back, GELU_BACK, (gradient, x, sum, partial, rows, width, threads))

// With these `library.py` finds out whether PyTorch uses this OpenMP library too.
EXPORTED int num_threads(void) { return omp_get_max_threads(); }
EXPORTED void set_num_threads(int count) { omp_set_num_threads(count); }

// What the library was compiled from.
EXPORTED const char *source_digest(void) { return SOURCE_DIGEST; }
