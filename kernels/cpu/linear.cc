// y = act(x w^T + b) in blocks of rows, each on one thread, so that bias and activation find the block in the cache.

namespace ovd {

constexpr int64_t kRows = 192;  // rows of a block: long enough that packing the weights costs little

template <class T>
inline void activate(T* y, int64_t n, int act) {
    if (act == 1) {
        for (int64_t i = 0; i < n; ++i) y[i] = y[i] > 0 ? y[i] : T(0);
    } else if (act == 2) {
        for (int64_t i = 0; i < n; ++i) y[i] = T(0.5) * y[i] * (T(1) + fast_erf(y[i] * T(0.70710678118654752440)));
    }
}

// g (n) becomes g * act'(z); z is the value before the activation.
template <class T>
inline void activate_backward(const T* z, T* g, int64_t n, int act) {
    if (act == 1) {
        for (int64_t i = 0; i < n; ++i) g[i] = z[i] > 0 ? g[i] : T(0);
    } else if (act == 2) {
        for (int64_t i = 0; i < n; ++i) {
            const T cdf = T(0.5) * (T(1) + fast_erf(z[i] * T(0.70710678118654752440)));
            g[i] *= cdf + z[i] * T(0.39894228040143267794) * fast_exp(T(-0.5) * z[i] * z[i]);
        }
    }
}

template <class T>
inline void linear_block(const T* x, const T* w, const T* b, T* y, int64_t rows, int64_t in, int64_t out) {
    for (int64_t r = 0; r < rows; ++r) std::memcpy(y + r * out, b, out * sizeof(T));
    gemm(false, true, rows, out, in, T(1), x, in, w, in, T(1), y, out);
}

template <class T>
void linear_forward(const T* x, const T* w, const T* b, T* y, int64_t n, int64_t in, int64_t out, int act) {
    const int64_t blocks = (n + kRows - 1) / kRows;
    if (blocks < omp_get_max_threads()) {  // too few rows to share: share the product instead
        linear_block(x, w, b, y, n, in, out);
        activate(y, n * out, act);
        return;
    }
#pragma omp parallel for schedule(dynamic)
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t first = block * kRows, rows = std::min(kRows, n - first);
        linear_block(x + first * in, w, b, y + first * out, rows, in, out);
        activate(y + first * out, rows * out, act);
    }
}

template <class T>
void linear_backward(const T* x, const T* w, const T* b, const T* dy, T* dx, T* dw, T* db, int64_t n, int64_t in,
                     int64_t out, int act) {
    std::vector<T> buffer;
    const T* g = dy;
    if (act) {
        buffer.resize(n * out);
        std::vector<T> z(n * out);
        linear_forward(x, w, b, z.data(), n, in, out, 0);
        const int64_t blocks = (n + kRows - 1) / kRows;
#pragma omp parallel for
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t first = block * kRows * out, size = std::min(kRows * out, n * out - first);
            std::memcpy(buffer.data() + first, dy + first, size * sizeof(T));
            activate_backward(z.data() + first, buffer.data() + first, size, act);
        }
        g = buffer.data();
    }
    gemm(false, false, n, in, out, T(1), g, out, w, in, T(0), dx, in);
    gemm(true, false, out, in, n, T(1), g, out, x, in, T(0), dw, in);
    if (n == 0) std::memset(dw, 0, out * in * sizeof(T));
#pragma omp parallel for
    for (int64_t o = 0; o < out; ++o) {
        T sum = 0;
        for (int64_t r = 0; r < n; ++r) sum += g[r * out + o];
        db[o] = sum;
    }
}

}  // namespace ovd
