// Matrix products cut into tiles, one thread per tile. The tiles depend only on the sizes and not on the number of
// threads, and so do the results. (oneDNN's own parallel products split the inner dimension by threads.)
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace ovd {

constexpr int64_t kTasks = 16;     // wanted number of tiles: enough work for a few threads
constexpr int64_t kMaxRows = 192;  // of a tile: more rows are not faster, and the result would not stay in the cache
constexpr int64_t kMinRows = 96;   // with fewer rows, packing the other factor takes too long
constexpr int64_t kMinColumns = 128;
constexpr int64_t kMinDepth = 2048;  // inner length of one partial product

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Splits a length into equal parts, each a multiple of `unit`, except the last.
struct Parts {
    int64_t length, part, count;
    Parts(int64_t length, int64_t wanted, int64_t unit)
        : length(length),
          part(std::max(unit, ceil_div(ceil_div(length, std::max<int64_t>(wanted, 1)), unit) * unit)),
          count(ceil_div(length, part)) {}
    int64_t first(int64_t i) const { return i * part; }
    int64_t size(int64_t i) const { return std::min(part, length - i * part); }
};

inline Parts row_parts(int64_t rows, int64_t wanted) {
    return Parts(rows, std::max(ceil_div(rows, kMaxRows), std::min(wanted, (rows + kMinRows / 2) / kMinRows)), 8);
}

// c (batch, m, n) = op(a) (batch, m, k) @ op(b) (batch, k, n), added to c if `add`; all without gaps.
// finish(item, row, rows, column, columns) is called for each tile as soon as it is done, on the same thread, while the
// tile is in its cache.
template <class T, class Finish>
void tiled_gemm(bool ta, bool tb, int64_t batch, int64_t m, int64_t n, int64_t k, const T* a, const T* b, bool add, T* c,
                Finish finish) {
    const int64_t wanted = ceil_div(kTasks, std::max<int64_t>(batch, 1)), lda = ta ? m : k, ldb = tb ? k : n;
    const Parts rows = row_parts(m, wanted);
    const Parts columns(n, std::min(ceil_div(wanted, std::max<int64_t>(rows.count, 1)), n / kMinColumns), 16);
    const int64_t tiles = rows.count * columns.count;
#pragma omp parallel for schedule(dynamic)
    for (int64_t task = 0; task < batch * tiles; ++task) {
        const int64_t item = task / tiles, i = task % tiles / columns.count, j = task % columns.count;
        const int64_t row = rows.first(i), column = columns.first(j);
        const T* left = a + item * m * k + (ta ? row : row * lda);
        const T* right = b + item * k * n + (tb ? column * ldb : column);
        gemm(ta, tb, rows.size(i), columns.size(j), k, T(1), left, lda, right, ldb, T(add),
             c + (item * m + row) * n + column, n);
        finish(item, row, rows.size(i), column, columns.size(j));
    }
}

struct NoFinish {
    void operator()(int64_t, int64_t, int64_t, int64_t, int64_t) const {}
};

// dw (m, n) = g^T (m, k) @ x (k, n), added to dw if `add`: long inner length, small result, as for the gradient of a
// weight. Partial products over ranges of k are added in order.
template <class T>
void weight_gradient(int64_t m, int64_t n, int64_t k, const T* g, const T* x, bool add, T* dw) {
    const int64_t tiles = row_parts(m, kTasks).count;
    const Parts depth(k, std::min(kTasks / std::max<int64_t>(tiles, 1), k / kMinDepth), 8);
    if (depth.count <= 1) {
        tiled_gemm(true, false, 1, m, n, k, g, x, add, dw, NoFinish());
        return;
    }
    const Parts rows = row_parts(m, kTasks);
    std::vector<T> partial(depth.count * m * n);
#pragma omp parallel for schedule(dynamic)
    for (int64_t task = 0; task < depth.count * rows.count; ++task) {
        const int64_t d = task / rows.count, i = task % rows.count, start = depth.first(d);
        gemm(true, false, rows.size(i), n, depth.size(d), T(1), g + start * m + rows.first(i), m, x + start * n, n, T(0),
             partial.data() + (d * m + rows.first(i)) * n, n);
    }
#pragma omp parallel for
    for (int64_t i = 0; i < m; ++i) {
        T* __restrict out = dw + i * n;
        if (!add) std::fill(out, out + n, T(0));
        for (int64_t d = 0; d < depth.count; ++d) {
            const T* part = partial.data() + (d * m + i) * n;
            for (int64_t j = 0; j < n; ++j) out[j] += part[j];
        }
    }
}

// sums (columns) of x (rows, columns), added to sums if `add`; blocks of rows first, then the blocks in order.
template <class T>
void column_sums(const T* x, int64_t rows, int64_t columns, bool add, T* sums) {
    const Parts blocks(rows, std::min<int64_t>(64, rows / 32), 1);
    std::vector<T> partial(blocks.count * columns, T(0));
#pragma omp parallel for
    for (int64_t block = 0; block < blocks.count; ++block) {
        T* __restrict out = partial.data() + block * columns;
        for (int64_t r = blocks.first(block); r < blocks.first(block) + blocks.size(block); ++r)
            for (int64_t c = 0; c < columns; ++c) out[c] += x[r * columns + c];
    }
    if (!add) std::fill(sums, sums + columns, T(0));
    for (int64_t block = 0; block < blocks.count; ++block)
        for (int64_t c = 0; c < columns; ++c) sums[c] += partial[block * columns + c];
}

}  // namespace ovd
