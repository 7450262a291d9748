// What happens to rows between the matrix products of a layer: dropout masks, activation, residual and normalisation,
// forward and back. Called by `kernels.py`, whose docstrings say what each one computes.
//
// Sums over rows (gradients of biases and of normalisation) are made by every thread for its own rows in `partial`
// [threads, sums, width] and then added up in the order of the threads: the same bits for the same number of threads.
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

template <class Number>
static void join(Number *total, const Number *kept, const Number *mask, const float *weight, const float *bias,
                 Number *result, float *mean, float *inverse, int64_t rows, int64_t width, float eps, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        Number *sum_D = total + row * width, *result_D = result + row * width;
        const Number *kept_D = kept + row * width, *mask_D = mask ? mask + row * width : nullptr;
        float sum = 0.0f;
        if (mask_D) {
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < width; i++) {
                write(sum_D[i], read(kept_D[i]) + read(mask_D[i]) * read(sum_D[i]));
                sum += read(sum_D[i]);
            }
        } else {
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < width; i++) {
                write(sum_D[i], read(kept_D[i]) + read(sum_D[i]));
                sum += read(sum_D[i]);
            }
        }
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
static void gather_sum(Number *sum_D, const float *partial, int which, int sums, int64_t width, int threads) {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < width; i++) {
        float sum = 0.0f;
        for (int thread = 0; thread < threads; thread++) sum += partial[(thread * sums + which) * width + i];
        write(sum_D[i], sum);
    }
}

template <class Number>
static void unjoin(const Number *gradient, const Number *total, const float *mean, const float *inverse,
                   const Number *mask, const float *weight, Number *to_kept, Number *to_changed, float *to_weight,
                   float *to_bias, Number *to_changed_sum, float *partial, int64_t rows, int64_t width, int threads) {
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num();
        const Share share(rows, thread, threads);
        float *weight_D = partial + thread * 3 * width, *bias_D = weight_D + width, *changed_D = bias_D + width;
        memset(weight_D, 0, sizeof(float) * 3 * width);
        for (int64_t row = share.begin; row < share.end; row++) {
            const Number *gradient_D = gradient + row * width, *total_D = total + row * width;
            const Number *mask_D = mask ? mask + row * width : nullptr;
            Number *kept_D = to_kept + row * width, *other_D = to_changed + row * width;
            const float centre = mean[row], over = inverse[row];
            float sum = 0.0f, along = 0.0f;
#pragma omp simd reduction(+ : sum, along)
            for (int64_t i = 0; i < width; i++) {
                const float normal = (read(total_D[i]) - centre) * over, given = read(gradient_D[i]);
                weight_D[i] += given * normal;
                bias_D[i] += given;
                sum += given * weight[i];
                along += given * weight[i] * normal;
            }
            sum /= float(width);
            along /= float(width);
            if (mask_D) {
#pragma omp simd
                for (int64_t i = 0; i < width; i++) {
                    const float normal = (read(total_D[i]) - centre) * over;
                    const float back = over * (read(gradient_D[i]) * weight[i] - sum - normal * along);
                    const float through = back * read(mask_D[i]);
                    write(kept_D[i], back);
                    write(other_D[i], through);
                    changed_D[i] += through;
                }
            } else {
#pragma omp simd
                for (int64_t i = 0; i < width; i++) {
                    const float normal = (read(total_D[i]) - centre) * over;
                    const float back = over * (read(gradient_D[i]) * weight[i] - sum - normal * along);
                    write(kept_D[i], back);
                    write(other_D[i], back);
                    changed_D[i] += back;
                }
            }
        }
#pragma omp barrier
        gather_sum(to_weight, partial, 0, 3, width, threads);
        gather_sum(to_bias, partial, 1, 3, width, threads);
        gather_sum(to_changed_sum, partial, 2, 3, width, threads);
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
        const int thread = omp_get_thread_num();
        const Share share(rows, thread, threads);
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
        gather_sum(sum, partial, 0, 1, width, threads);
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

// Threads that a parallel region would get here: PyTorch's number where both use one OpenMP library.
EXPORTED int default_threads(void) { return omp_get_max_threads(); }
