// y = act(x w1^T + b1) w2^T + b2, a block of rows and a range of the hidden units at a time: the hidden values stay in
// the cache of one thread.

namespace ovd {

constexpr int64_t kHidden = 512;        // hidden units at a time: 192 rows of them are 384 KiB
constexpr int64_t kKept = 8 << 20;      // hidden values that the backward pass keeps, and as many gradients

// x (n, in), w1 (hidden, in), w2 (out, hidden), y (n, out)
template <class T>
void feed_forward_forward(const T* x, const T* w1, const T* b1, const T* w2, const T* b2, T* y, int64_t n, int64_t in,
                          int64_t hidden, int64_t out, int act) {
    const Parts blocks = row_parts(n, kTasks);
    if (blocks.count < kTasks / 2) {  // few rows: share each product among the threads
        std::vector<T> h(n * hidden);
        linear_forward(x, w1, b1, h.data(), n, in, hidden, act);
        linear_forward(h.data(), w2, b2, y, n, hidden, out, kIdentity);
        return;
    }
#pragma omp parallel
    {
        std::vector<T> h(blocks.part * std::min(kHidden, hidden));
#pragma omp for schedule(dynamic)
        for (int64_t block = 0; block < blocks.count; ++block) {
            const int64_t row = blocks.first(block), rows = blocks.size(block);
            for (int64_t unit = 0; unit < hidden; unit += kHidden) {
                const int64_t units = std::min(kHidden, hidden - unit);
                gemm(false, true, rows, units, in, T(1), x + row * in, in, w1 + unit * in, in, T(0), h.data(), units);
                add_bias_activate(h.data(), b1 + unit, rows, units, units, act);
                gemm(false, true, rows, out, units, T(1), h.data(), units, w2 + unit, hidden, T(unit > 0), y + row * out,
                     out);
            }
            add_bias_activate(y + row * out, b2, rows, out, out, kIdentity);
        }
    }
}

// The hidden values are recomputed for some rows at a time; the gradients of the weights are summed over these rows.
template <class T>
void feed_forward_backward(const T* x, const T* w1, const T* b1, const T* w2, const T* dy, T* dx, T* dw1, T* db1, T* dw2,
                           T* db2, int64_t n, int64_t in, int64_t hidden, int64_t out, int act) {
    const int64_t kept = std::max<int64_t>(1, kKept / std::max<int64_t>(hidden, 1));
    std::vector<T> z(std::min(n, kept) * hidden), dz(z.size());
    for (int64_t start = 0; start == 0 || start < n; start += kept) {
        const int64_t count = std::min(kept, n - start);
        const Parts blocks = row_parts(count, kTasks);
#pragma omp parallel for collapse(2) schedule(dynamic)
        for (int64_t block = 0; block < blocks.count; ++block)
            for (int64_t unit = 0; unit < hidden; unit += kHidden) {
                const int64_t row = blocks.first(block), rows = blocks.size(block);
                const int64_t units = std::min(kHidden, hidden - unit), there = row * hidden + unit;
                gemm(false, true, rows, units, in, T(1), x + (start + row) * in, in, w1 + unit * in, in, T(0),
                     z.data() + there, hidden);
                gemm(false, false, rows, units, out, T(1), dy + (start + row) * out, out, w2 + unit, hidden, T(0),
                     dz.data() + there, hidden);
                add_bias_activate_backward(z.data() + there, b1 + unit, dz.data() + there, dz.data() + there, rows, units,
                                           hidden, act);
            }
        tiled_gemm(false, false, 1, count, in, hidden, dz.data(), w1, false, dx + start * in, NoFinish());
        weight_gradient(hidden, in, count, dz.data(), x + start * in, start > 0, dw1);
        weight_gradient(out, hidden, count, dy + start * out, z.data(), start > 0, dw2);
        column_sums(dz.data(), count, hidden, start > 0, db1);
    }
    column_sums(dy, n, out, false, db2);
}

}  // namespace ovd
