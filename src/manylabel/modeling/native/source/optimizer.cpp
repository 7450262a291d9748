// The norm of all gradients, and AdamW with the new bf16 copy of the weights: each in one pass through memory, which is
// what both wait for. Called by `kernels.py`.
#include "numbers.hpp"

constexpr int64_t CHUNK = 1 << 14;

// One parameter: its gradient (null where nothing arrived), whether that is bf16, and its place in the flat vector.
struct Slot {
    const void *gradient;
    int64_t is_bf16, start, size;
};

// Part `chunk` of all slots taken together; `first` [slots + 1] says with which chunk each slot begins.
struct Part {
    const Slot *slot;
    int64_t begin, end;
    Part(const Slot *slots, const int64_t *first, int64_t num_slots, int64_t chunk) {
        int64_t low = 0, high = num_slots;  // the last slot that begins at or before this chunk
        while (high - low > 1) {
            const int64_t middle = (low + high) / 2;
            (first[middle] <= chunk ? low : high) = middle;
        }
        slot = slots + low;
        begin = (chunk - first[low]) * CHUNK;
        end = begin + CHUNK < slot->size ? begin + CHUNK : slot->size;
    }
};

template <class Number>
static double squares_of(const Number *gradient, int64_t size) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < size; i++) sum += read(gradient[i]) * read(gradient[i]);
    return sum;
}

// The sum of squares of every chunk; the caller adds them up in order.
EXPORTED void chunk_squares(const Slot *slots, const int64_t *first, int64_t num_slots, double *squares, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < first[num_slots]; chunk++) {
        const Part part(slots, first, num_slots, chunk);
        const int64_t size = part.end - part.begin;
        squares[chunk] = !part.slot->gradient ? 0.0
                         : part.slot->is_bf16 ? squares_of((const Brain *)part.slot->gradient + part.begin, size)
                                              : squares_of((const float *)part.slot->gradient + part.begin, size);
    }
}

// The numbers of one step: what gradients and weights are multiplied by, the rate divided by the first bias correction,
// the root of the second, and what each moment takes (`new_*`) of the gradient.
struct Step {
    float scale, kept, rate, root, new_mean, old_square, new_square, epsilon;
};

template <class Number, bool HAS_GRADIENT, bool HAS_COPY>
static void update(float *weight, float *mean, float *square, Brain *copy, const Number *gradient, int64_t size,
                   const Step step) {
#pragma omp simd
    for (int64_t i = 0; i < size; i++) {
        const float given = HAS_GRADIENT ? read(gradient[i]) * step.scale : 0.0f;
        const float first = mean[i] + (given - mean[i]) * step.new_mean;
        const float second = square[i] * step.old_square + given * given * step.new_square;
        const float changed =
            weight[i] * step.kept - step.rate * first / (__builtin_sqrtf(second) / step.root + step.epsilon);
        mean[i] = first;
        square[i] = second;
        weight[i] = changed;
        if (HAS_COPY) write(copy[i], changed);
    }
}

template <class Number, bool HAS_GRADIENT>
static void update_part(float *weight, float *mean, float *square, Brain *copy, const Part &part, const Step step) {
    const int64_t at = part.slot->start + part.begin, size = part.end - part.begin;
    const Number *gradient = HAS_GRADIENT ? (const Number *)part.slot->gradient + part.begin : nullptr;
    if (copy)
        update<Number, HAS_GRADIENT, true>(weight + at, mean + at, square + at, copy + at, gradient, size, step);
    else
        update<Number, HAS_GRADIENT, false>(weight + at, mean + at, square + at, copy, gradient, size, step);
}

EXPORTED void adamw(float *weight, float *mean, float *square, Brain *copy, const Slot *slots, const int64_t *first,
                    int64_t num_slots, const Step *step, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t chunk = 0; chunk < first[num_slots]; chunk++) {
        const Part part(slots, first, num_slots, chunk);
        if (!part.slot->gradient)
            update_part<float, false>(weight, mean, square, copy, part, *step);
        else if (part.slot->is_bf16)
            update_part<Brain, true>(weight, mean, square, copy, part, *step);
        else
            update_part<float, true>(weight, mean, square, copy, part, *step);
    }
}
