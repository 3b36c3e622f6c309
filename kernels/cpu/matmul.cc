// Products of batches of matrices, and their gradients, which are such products again.

namespace ovd {

// c (batch, m, n) = op(a) @ op(b)
template <class T>
void bmm_forward(const T* a, const T* b, T* c, int64_t batch, int64_t m, int64_t n, int64_t k, bool ta, bool tb) {
    tiled_gemm(ta, tb, batch, m, n, k, a, b, false, c, NoFinish());
}

// da = dc op(b)^T and db = op(a)^T dc, each transposed if its factor was.
template <class T>
void bmm_backward(const T* a, const T* b, const T* dc, T* da, T* db, int64_t batch, int64_t m, int64_t n, int64_t k,
                  bool ta, bool tb) {
    if (ta)
        tiled_gemm(tb, true, batch, k, m, n, b, dc, false, da, NoFinish());
    else
        tiled_gemm(false, !tb, batch, m, k, n, dc, b, false, da, NoFinish());
    if (tb)
        tiled_gemm(true, ta, batch, n, k, m, dc, a, false, db, NoFinish());
    else
        tiled_gemm(!ta, false, batch, k, n, m, a, dc, false, db, NoFinish());
}

}  // namespace ovd
