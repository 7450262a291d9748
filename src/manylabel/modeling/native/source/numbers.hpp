// Number formats and small functions that the kernels share. Everything is plain C++ that a compiler turns into the
// vector instructions of the processor it is built for; W is how many fp32 numbers one of its registers holds.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
constexpr int W = 16;
#else
constexpr int W = 8;
#endif

#define EXPORTED extern "C" __attribute__((visibility("default")))

typedef float Vector __attribute__((vector_size(W * 4), aligned(4)));

// A number as PyTorch's bfloat16 lays it down: the upper half of an fp32 number.
struct Brain {
    uint16_t bits;
};

static inline float bits_as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t float_as_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float read(float value) { return value; }
static inline float read(Brain value) { return bits_as_float(uint32_t(value.bits) << 16); }

static inline void write(float &place, float value) { place = value; }

// Rounds to nearest, ties to even; what is not a number stays one.
static inline void write(Brain &place, float value) {
    const uint32_t bits = float_as_bits(value);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    place.bits = uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

typedef uint32_t Bits __attribute__((vector_size(W * 4), aligned(4)));
static inline Vector read_vector(const float *place) { return *(const Vector *)place; }
static inline void write_vector(float *place, Vector value) { *(Vector *)place = value; }

// exp(x) for x <= 0 with a relative error below 2e-7; below -87 it stays at exp(-87), 1.6e-38, and what is not a number
// stays one. 2^n times a Taylor polynomial of the rest, which lies within half of ln 2 (Cody & Waite 1980, chapter 6).
// For one number (float, uint32_t) or a register of them (Vector, Bits).
template <class Real, class Whole>
static inline Real exp_of_negative(Real x) {
    const Real bounded = x < Real{} - 87.0f ? Real{} - 87.0f : x;
    const Real shifted = bounded * 1.44269504f + 12582912.0f;  // 1.5 * 2^23 leaves the nearest whole number
    const Real whole = shifted - 12582912.0f;
    const Real rest = (bounded - whole * 0.693359375f) + whole * 2.12194440e-4f;
    Real power = rest * (1.0f / 720.0f) + 1.0f / 120.0f;
    power = power * rest + 1.0f / 24.0f;
    power = power * rest + 1.0f / 6.0f;
    power = power * rest + 0.5f;
    power = power * rest + 1.0f;
    power = power * rest + 1.0f;
    Whole exponent;
    memcpy(&exponent, &shifted, sizeof exponent);
    exponent = (exponent + 127u) << 23;
    Real factor;
    memcpy(&factor, &exponent, sizeof factor);
    return power * factor;
}

// The rows of one thread of `count`: as many as of every other, one more for the first ones.
struct Share {
    int64_t begin, end;
    Share(int64_t rows, int thread, int count) {
        const int64_t each = rows / count, more = rows % count;
        begin = thread * each + (thread < more ? thread : more);
        end = begin + each + (thread < more ? 1 : 0);
    }
};
