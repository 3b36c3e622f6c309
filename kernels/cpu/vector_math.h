// exp and erf that the compiler can vectorise: no branches, no calls. Float within 2 units in the last place.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace ovd {

inline double fast_exp(double x) { return std::exp(x); }
inline double fast_erf(double x) { return std::erf(x); }

// exp(x) = 2^n exp(r), |r| <= ln(2)/2; the polynomial is that of Cephes (expf.c). Below -87.3 the result is 0, -inf
// included; NaN stays NaN.
inline float fast_exp(float x) {
    const float clamped = x < -87.3f ? -87.3f : (x > 88.3f ? 88.3f : x);
    const float n = std::floor(clamped * 1.44269504088896341f + 0.5f);
    const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return x < -87.3f ? 0.0f : p * scale;
}

// Abramowitz and Stegun 7.1.26 is too coarse (1.5e-7 absolute is fine, but not relative near 0); two ranges instead:
// a Taylor-like odd polynomial for |x| < 1 and 1 - exp(-x^2) * rational beyond.
inline float fast_erf(float x) {
    const float a = std::fabs(x);
    const float s = a * a;
    // |x| < 0.921875 and beyond: minimax polynomials of N. Juffa's public-domain erff.
    float r1 = -5.96761703e-4f;
    r1 = r1 * s + 4.99119423e-3f;
    r1 = r1 * s - 2.67681349e-2f;
    r1 = r1 * s + 1.12819925e-1f;
    r1 = r1 * s - 3.76125336e-1f;
    r1 = r1 * s + 1.28379166e-1f;
    const float small = r1 * x + x;
    float r2 = -1.72853470e-5f * a + 3.83197126e-4f;
    const float u = -3.88396438e-3f * a + 2.42546219e-2f;
    r2 = r2 * s + u;
    r2 = r2 * a - 1.06777877e-1f;
    r2 = r2 * a - 6.34846687e-1f;
    r2 = r2 * a - 1.28717512e-1f;
    r2 = r2 * a - a;
    const float large = std::copysign(1.0f - fast_exp(r2), x);
    return a > 0.921875f ? large : small;
}

}  // namespace ovd
