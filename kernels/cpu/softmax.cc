// Softmax of rows, and its gradient. A row is read three times but stays in the L1 cache.
#include <cmath>
#include <cstdint>
#include <limits>

namespace ovd {

constexpr int64_t kLanes = 32;  // parallel maxima: the compiler does not vectorise a maximum that must handle NaN
constexpr int64_t kPoints = 16;  // levels times points of deformable attention: millions of rows, so a constant width

template <class T>
inline T row_max(const T* x, int64_t width) {
    T best = -std::numeric_limits<T>::infinity();
    int64_t i = 0;
    if (width >= 2 * kLanes) {
        T side[kLanes];
        for (int64_t j = 0; j < kLanes; ++j) side[j] = x[j];
        for (i = kLanes; i + kLanes <= width; i += kLanes)
            for (int64_t j = 0; j < kLanes; ++j) side[j] = x[i + j] > side[j] ? x[i + j] : side[j];
        for (int64_t j = 0; j < kLanes; ++j) best = side[j] > best ? side[j] : best;
    }
    for (; i < width; ++i) best = x[i] > best ? x[i] : best;
    return best;
}

// A row of only -inf becomes NaN: -inf - -inf.
template <class T>
inline void softmax_row(const T* x, T* y, int64_t width) {
    const T best = row_max(x, width);
    T sum = 0;
    for (int64_t i = 0; i < width; ++i) {
        y[i] = fast_exp(x[i] - best);
        sum += y[i];
    }
    const T scale = 1 / sum;
    for (int64_t i = 0; i < width; ++i) y[i] *= scale;
}

// dx = y (dy - sum(y dy))
template <class T>
inline void softmax_row_backward(const T* y, const T* dy, T* dx, int64_t width) {
    T dot = 0;
    for (int64_t i = 0; i < width; ++i) dot += y[i] * dy[i];
    for (int64_t i = 0; i < width; ++i) dx[i] = y[i] * (dy[i] - dot);
}

// x, y (rows, width)
template <class T>
void softmax_forward(const T* __restrict x, T* __restrict y, int64_t rows, int64_t width) {
    if (width == kPoints) {
#pragma omp parallel for
        for (int64_t r = 0; r < rows; ++r) softmax_row(x + r * kPoints, y + r * kPoints, kPoints);
    } else {
#pragma omp parallel for
        for (int64_t r = 0; r < rows; ++r) softmax_row(x + r * width, y + r * width, width);
    }
}

template <class T>
void softmax_backward(const T* __restrict y, const T* __restrict dy, T* __restrict dx, int64_t rows, int64_t width) {
    if (width == kPoints) {
#pragma omp parallel for
        for (int64_t r = 0; r < rows; ++r)
            softmax_row_backward(y + r * kPoints, dy + r * kPoints, dx + r * kPoints, kPoints);
    } else {
#pragma omp parallel for
        for (int64_t r = 0; r < rows; ++r)
            softmax_row_backward(y + r * width, dy + r * width, dx + r * width, width);
    }
}

}  // namespace ovd
