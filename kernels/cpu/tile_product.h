// Products of matrices that fit in the first-level cache, where a call to oneDNN costs as much as its work.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace ovd {

#ifdef __AVX512F__
constexpr int64_t kVectorBytes = 64;
#else
constexpr int64_t kVectorBytes = 32;
#endif

template <class T>
struct Vector;
template <>
struct Vector<float> {
    typedef float type __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
};
template <>
struct Vector<double> {
    typedef double type __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
};

constexpr int64_t kTileRows = 6;     // 6 x 2 sums and 2 factors fit in the 16 registers of AVX2
constexpr int64_t kTileDepth = 128;  // rows of b that stay in the first-level cache for all tiles of a column

template <class T>
constexpr int64_t lanes() {
    return kVectorBytes / sizeof(T);
}

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Memory on a cache line, not initialised.
template <class T>
class Scratch {
  public:
    explicit Scratch(int64_t size) {
        const int64_t bytes = round_up(size * sizeof(T) + 1, 64);
        if (posix_memalign(reinterpret_cast<void**>(&data_), 64, bytes)) throw std::bad_alloc();
    }
    ~Scratch() { std::free(data_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    T* get() const { return data_; }

  private:
    T* data_ = nullptr;
};

template <int kVectors, class T>
inline void tile(int64_t k, const T* a, int64_t row, int64_t column, const T* b, int64_t ldb, bool add, T* c,
                 int64_t ldc) {
    typedef typename Vector<T>::type V;
    V sum[kTileRows][kVectors] = {};
    if (add)
        for (int r = 0; r < kTileRows; ++r)
            for (int v = 0; v < kVectors; ++v) sum[r][v] = reinterpret_cast<const V*>(c + r * ldc)[v];
    for (int64_t p = 0; p < k; ++p) {
        V factor[kVectors];
        for (int v = 0; v < kVectors; ++v) factor[v] = reinterpret_cast<const V*>(b + p * ldb)[v];
        for (int r = 0; r < kTileRows; ++r)
            for (int v = 0; v < kVectors; ++v) sum[r][v] += a[r * row + p * column] * factor[v];
    }
    for (int r = 0; r < kTileRows; ++r)
        for (int v = 0; v < kVectors; ++v) reinterpret_cast<V*>(c + r * ldc)[v] = sum[r][v];
}

// c (m, n) = a (m, k) @ b (k, n) with a[i * row + p * column], so that a may be transposed. k > 0, m is a multiple of
// kTileRows and n of lanes<T>(): the caller pads its buffers; what is in the padding of a and b only reaches that of c.
template <class T>
inline void tile_product(int64_t m, int64_t n, int64_t k, const T* a, int64_t row, int64_t column, const T* b,
                         int64_t ldb, T* c, int64_t ldc) {
    constexpr int64_t pair = 2 * lanes<T>();
    for (int64_t p = 0; p < k; p += kTileDepth) {
        const int64_t depth = std::min(kTileDepth, k - p);
        const T *left = a + p * column, *right = b + p * ldb;
        for (int64_t j = 0; j < n; j += pair)
            for (int64_t i = 0; i < m; i += kTileRows) {
                const T* rows = left + i * row;
                T* to = c + i * ldc + j;
                if (j + pair <= n)
                    tile<2>(depth, rows, row, column, right + j, ldb, p > 0, to, ldc);
                else
                    tile<1>(depth, rows, row, column, right + j, ldb, p > 0, to, ldc);
            }
    }
}

}  // namespace ovd
