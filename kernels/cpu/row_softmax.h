// Softmax of rows whose width is a multiple of the vector registers.
//
// Without -ffinite-math-only the compiler does not vectorise the maximum of a row, and in short rows of unknown width
// most of its code would be prologue and epilogue: hence explicit vectors and inner loops of constant length.
#pragma once

namespace ovd {

// exp of non-positive numbers: fast_exp (vector_math.h, same polynomial) in whole registers, which the compiler does
// not make of it where it prefers half ones. Largest relative error 3e-7 (at -87); below -87.3 the result is 0, -inf
// included; NaN stays NaN.
inline Vector<float>::type exp_of_negative(Vector<float>::type x) {
    typedef Vector<float>::type V;
    typedef int32_t I __attribute__((vector_size(kVectorBytes)));
    const V low = V{} - 87.3f;
    const V clamped = x < low ? low : x;
    const I n = __builtin_convertvector(clamped * 1.44269504f - 0.5f, I);  // towards zero: the nearest
    const V whole = __builtin_convertvector(n, V);
    const V r = (clamped - whole * 0.693145752f) - whole * 1.42860677e-6f;
    V q = r * 1.3821468e-3f + 8.368663e-3f;
    q = q * r + 4.1668255e-2f;
    q = q * r + 0.16666521f;
    q = q * r + 0.49999994f;
    const V p = q * (r * r) + r + 1.0f;
    const V y = p * reinterpret_cast<V>((n + 127) << 23);
    return x < low ? V{} : y;
}

inline Vector<double>::type exp_of_negative(Vector<double>::type x) {
    for (int64_t i = 0; i < lanes<double>(); ++i) x[i] = std::exp(x[i]);
    return x;
}

// max(x) over n values, n a multiple of lanes<T>().
template <class T>
inline T row_maximum(const T* x, int64_t n) {
    typedef typename Vector<T>::type V;
    constexpr int64_t step = lanes<T>();
    V top = *reinterpret_cast<const V*>(x);
    for (int64_t i = step; i < n; i += step) {
        const V next = *reinterpret_cast<const V*>(x + i);
        top = next > top ? next : top;
    }
    T best = top[0];
    for (int64_t i = 1; i < step; ++i) best = top[i] > best ? top[i] : best;
    return best;
}

// x becomes exp(x - top), the sum is returned; n is a multiple of lanes<T>().
template <class T>
inline T row_exp(T* x, int64_t n, T top) {
    typedef typename Vector<T>::type V;
    constexpr int64_t step = lanes<T>();
    V sum = {};
    for (int64_t i = 0; i < n; i += step) {
        const V e = exp_of_negative(*reinterpret_cast<const V*>(x + i) - top);
        *reinterpret_cast<V*>(x + i) = e;
        sum += e;
    }
    T total = 0;
    for (int64_t j = 0; j < step; ++j) total += sum[j];
    return total;
}

// A row of only -inf becomes NaN.
template <class T>
inline void row_softmax(T* x, int64_t n) {
    typedef typename Vector<T>::type V;
    const T scale = 1 / row_exp(x, n, row_maximum(x, n));
    for (int64_t i = 0; i < n; i += lanes<T>()) *reinterpret_cast<V*>(x + i) *= scale;
}

}  // namespace ovd
