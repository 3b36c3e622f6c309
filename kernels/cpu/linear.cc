// y = act(x w^T + b): bias and activation are applied to each tile of the product while it is in cache.

namespace ovd {

// x (n, in), w (out, in), b (out), y (n, out)
template <class T>
void linear_forward(const T* x, const T* w, const T* b, T* y, int64_t n, int64_t in, int64_t out, int act) {
    tiled_gemm(false, true, 1, n, out, in, x, w, false, y,
               [=](int64_t, int64_t row, int64_t rows, int64_t column, int64_t columns) {
                   add_bias_activate(y + row * out + column, b + column, rows, columns, out, act);
               });
}

template <class T>
void linear_backward(const T* x, const T* w, const T* b, const T* dy, T* dx, T* dw, T* db, int64_t n, int64_t in,
                     int64_t out, int act) {
    std::vector<T> z, before;
    const T* g = dy;  // gradient before the activation
    if (act != kIdentity) {
        z.resize(n * out);
        before.resize(n * out);
        tiled_gemm(false, true, 1, n, out, in, x, w, false, z.data(),
                   [&](int64_t, int64_t row, int64_t rows, int64_t column, int64_t columns) {
                       const int64_t there = row * out + column;
                       add_bias_activate_backward(z.data() + there, b + column, dy + there, before.data() + there, rows,
                                                  columns, out, act);
                   });
        g = before.data();
    }
    tiled_gemm(false, false, 1, n, in, out, g, w, false, dx, NoFinish());
    weight_gradient(out, in, n, g, x, false, dw);
    column_sums(g, n, out, false, db);
}

}  // namespace ovd
