// Activations of linear layers and their derivatives, on blocks with a leading dimension.
#pragma once
#include <cstdint>

namespace ovd {

enum Activation { kIdentity = 0, kRelu = 1, kGelu = 2 };  // the codes of kernels/linear.py

template <class T>
inline T gelu_cdf(T z) {
    return T(0.5) * (T(1) + fast_erf(z * T(0.70710678118654752440)));
}

// y (rows, columns) becomes act(y + b)
template <class T>
inline void add_bias_activate(T* y, const T* __restrict b, int64_t rows, int64_t columns, int64_t ld, int act) {
    for (int64_t r = 0; r < rows; ++r) {
        T* __restrict row = y + r * ld;
        if (act == kRelu) {
            for (int64_t i = 0; i < columns; ++i) row[i] = row[i] + b[i] > 0 ? row[i] + b[i] : T(0);
        } else if (act == kGelu) {
            for (int64_t i = 0; i < columns; ++i) row[i] = (row[i] + b[i]) * gelu_cdf(row[i] + b[i]);
        } else {
            for (int64_t i = 0; i < columns; ++i) row[i] += b[i];
        }
    }
}

// z (rows, columns), the product without b, becomes act(z + b), and g becomes dy act'(z + b); dy may be g itself.
// relu'(0) is 0.
template <class T>
inline void add_bias_activate_backward(T* z, const T* b, const T* dy, T* g, int64_t rows, int64_t columns, int64_t ld,
                                       int act) {
    for (int64_t r = 0; r < rows; ++r, z += ld, dy += ld, g += ld) {
        if (act == kRelu) {
            for (int64_t i = 0; i < columns; ++i) {
                const T v = z[i] + b[i];
                g[i] = v > 0 ? dy[i] : T(0);
                z[i] = v > 0 ? v : T(0);
            }
        } else {
            for (int64_t i = 0; i < columns; ++i) {
                const T v = z[i] + b[i], cdf = gelu_cdf(v);
                const T density = T(0.39894228040143267794) * fast_exp(T(-0.5) * v * v);
                g[i] = dy[i] * (cdf + v * density);
                z[i] = v * cdf;
            }
        }
    }
}

}  // namespace ovd
