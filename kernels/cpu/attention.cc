// Attention in blocks of queries: the logits of a block stay in the cache, the full matrix of logits is never stored.

namespace ovd {

struct AttentionSizes {
    int64_t batch, queries, keys, heads, depth;
    // Rows of the logits are padded to whole vectors, and so are those of a packed head.
    template <class T>
    int64_t columns() const { return round_up(keys, lanes<T>()); }
    template <class T>
    int64_t width() const { return round_up(depth, lanes<T>()); }
};

constexpr int64_t kQueries = 8 * kTileRows;  // of a block

// Additive bias (batch, heads, queries, keys) of which all but the last may be 1; null is none.
template <class T>
struct AttentionBias {
    const T* data;
    int64_t batch, heads, queries, keys;

    const T* row(int64_t b, int64_t h, int64_t n) const {
        b = batch == 1 ? 0 : b, h = heads == 1 ? 0 : h, n = queries == 1 ? 0 : n;
        return data + ((b * heads + h) * queries + n) * keys;
    }
};

// y (width, columns) = transposed x, rows of x are stride apart; the padding of y is zero already.
template <class T>
inline void pack_transposed(const T* x, int64_t stride, int64_t rows, int64_t depth, int64_t columns, T* y) {
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < depth; ++i) y[i * columns + r] = x[r * stride + i];
}

// y (rows, width) = factor * x; the padding of y is zero already.
template <class T>
inline void pack(const T* x, int64_t stride, int64_t rows, int64_t depth, int64_t width, T factor, T* y) {
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < depth; ++i) y[r * width + i] = factor * x[r * stride + i];
}

// p (kQueries, columns) = softmax of the logits of rows of q (kQueries, width, scaled).
template <class T>
inline void attention_block(const T* q, const T* kt, const AttentionBias<T>& bias, int64_t b, int64_t h, int64_t first,
                            int64_t rows, T* p, const AttentionSizes& z) {
    const int64_t columns = z.columns<T>();
    tile_product(round_up(rows, kTileRows), columns, z.depth, q, z.width<T>(), int64_t(1), kt, columns, p, columns);
    for (int64_t r = 0; r < rows; ++r) {
        T* row = p + r * columns;
        if (bias.data) {
            const T* add = bias.row(b, h, first + r);
            for (int64_t m = 0; m < z.keys; ++m) row[m] += add[m];
        }
        std::fill(row + z.keys, row + columns, T(-INFINITY));
        row_softmax(row, columns);
    }
}

// All arrays are (batch, tokens, heads, depth). A head is packed by the thread that works on it. With few heads,
// several threads share the queries of a head, each with its own copy. Results do not depend on this.
template <class T>
void attention_forward(const T* q, const T* k, const T* v, AttentionBias<T> bias, T* out, T scale, AttentionSizes z) {
    const int64_t columns = z.columns<T>(), width = z.width<T>(), stride = z.heads * z.depth;
    const int64_t heads = z.batch * z.heads, blocks = (z.queries + kQueries - 1) / kQueries;
    if (z.keys == 0) {
        std::memset(out, 0, z.batch * z.queries * stride * sizeof(T));
        return;
    }
    const int64_t wanted = heads ? (4 * omp_get_max_threads() + heads - 1) / heads : 1;
    const int64_t shares = std::max(int64_t(1), std::min(wanted, blocks)), share = (blocks + shares - 1) / shares;
#pragma omp parallel
    {
        const int64_t packed = 2 * width * columns;  // kt (width, columns), v (columns, width)
        Scratch<T> memory(packed + 2 * kQueries * width + kQueries * columns);
        T *kt = memory.get(), *values = kt + width * columns, *queries = kt + packed;
        T *o = queries + kQueries * width, *p = o + kQueries * width;
        std::memset(memory.get(), 0, (packed + kQueries * width) * sizeof(T));
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t head = 0; head < heads; ++head)
            for (int64_t part = 0; part < shares; ++part) {
                const int64_t b = head / z.heads, h = head % z.heads, keys_at = b * z.keys * stride + h * z.depth;
                pack_transposed(k + keys_at, stride, z.keys, z.depth, columns, kt);
                pack(v + keys_at, stride, z.keys, z.depth, width, T(1), values);
                const int64_t last = std::min(z.queries, (part + 1) * share * kQueries);
                for (int64_t first = part * share * kQueries; first < last; first += kQueries) {
                    const int64_t rows = std::min(kQueries, last - first), padded = round_up(rows, kTileRows);
                    const int64_t at = (b * z.queries + first) * stride + h * z.depth;
                    pack(q + at, stride, rows, z.depth, width, scale, queries);
                    attention_block(queries, kt, bias, b, h, first, rows, p, z);
                    tile_product(padded, width, z.keys, p, columns, int64_t(1), values, width, o, width);
                    for (int64_t r = 0; r < rows; ++r)
                        std::memcpy(out + at + r * stride, o + r * width, z.depth * sizeof(T));
                }
            }
    }
}

// A thread owns a head: gradients of its keys and values are summed over the blocks of queries in order.
template <class T>
void attention_backward(const T* q, const T* k, const T* v, AttentionBias<T> bias, const T* dout, T* dq, T* dk, T* dv,
                        T scale, AttentionSizes z) {
    const int64_t columns = z.columns<T>(), width = z.width<T>(), stride = z.heads * z.depth, one = 1;
    if (z.keys == 0) {
        std::memset(dq, 0, z.batch * z.queries * stride * sizeof(T));
        return;
    }
    const int64_t tall = round_up(z.keys, kTileRows), square = kQueries * columns, flat = kQueries * width;
#pragma omp parallel
    {
        // kt, vt (width, columns), keys (columns, width), sums of dk and dv and one product (tall, width); of a block
        // q, dout and dq (kQueries, width), probabilities and their gradient (kQueries, columns).
        const int64_t size = 3 * width * columns + 3 * tall * width + 3 * flat + 2 * square + 64;
        Scratch<T> memory(size);
        T *kt = memory.get(), *vt = kt + width * columns, *keys = vt + width * columns, *p = keys + width * columns;
        T *g = p + square, *queries = g + square, *grads = queries + flat, *d = grads + flat;
        T *sum_k = d + flat, *sum_v = sum_k + tall * width, *product = sum_v + tall * width;
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t b = 0; b < z.batch; ++b)
            for (int64_t h = 0; h < z.heads; ++h) {
                const int64_t from_key = b * z.keys * stride + h * z.depth;
                std::memset(memory.get(), 0, size * sizeof(T));
                pack_transposed(k + from_key, stride, z.keys, z.depth, columns, kt);
                pack_transposed(v + from_key, stride, z.keys, z.depth, columns, vt);
                pack(k + from_key, stride, z.keys, z.depth, width, T(1), keys);
                for (int64_t first = 0; first < z.queries; first += kQueries) {
                    const int64_t rows = std::min(kQueries, z.queries - first), padded = round_up(rows, kTileRows);
                    const int64_t from = (b * z.queries + first) * stride + h * z.depth;
                    pack(q + from, stride, rows, z.depth, width, scale, queries);
                    pack(dout + from, stride, rows, z.depth, width, T(1), grads);
                    attention_block(queries, kt, bias, b, h, first, rows, p, z);
                    tile_product(padded, columns, z.depth, grads, width, one, vt, columns, g, columns);
                    for (int64_t r = 0; r < rows; ++r) {
                        T *pr = p + r * columns, *gr = g + r * columns, mean = 0;
                        for (int64_t m = 0; m < columns; ++m) mean += pr[m] * gr[m];
                        for (int64_t m = 0; m < columns; ++m) gr[m] = pr[m] * (gr[m] - mean);
                    }
                    tile_product(padded, width, z.keys, g, columns, one, keys, width, d, width);
                    for (int64_t r = 0; r < rows; ++r)
                        for (int64_t i = 0; i < z.depth; ++i) dq[from + r * stride + i] = scale * d[r * width + i];
                    tile_product(tall, width, rows, p, one, columns, grads, width, product, width);
                    for (int64_t i = 0; i < z.keys * width; ++i) sum_v[i] += product[i];
                    tile_product(tall, width, rows, g, one, columns, queries, width, product, width);
                    for (int64_t i = 0; i < z.keys * width; ++i) sum_k[i] += product[i];
                }
                for (int64_t m = 0; m < z.keys; ++m) {
                    std::memcpy(dk + from_key + m * stride, sum_k + m * width, z.depth * sizeof(T));
                    std::memcpy(dv + from_key + m * stride, sum_v + m * width, z.depth * sizeof(T));
                }
            }
    }
}

}  // namespace ovd
