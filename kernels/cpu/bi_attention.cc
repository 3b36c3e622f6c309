// Attention between image rows and text columns in both directions, in one pass over blocks of image rows.
//
// The columns are those of all heads side by side: logits (rows, heads * tokens). They are computed in blocks that stay
// in the cache and are never all stored. The softmax over image rows is an online softmax (running maximum and sum per
// column). Image rows are split into segments whose number does not depend on the threads; their partial results are
// combined in order.

namespace ovd {

struct BiSizes {
    int64_t images, n, batch, heads, tokens, depth;
    int64_t columns() const { return heads * tokens; }
    // Columns rounded up to whole vectors: the stride between rows of logits.
    template <class T>
    int64_t width() const { return round_up(columns(), lanes<T>()); }
    template <class T>
    int64_t head_width() const { return round_up(tokens, lanes<T>()); }
    // Elements of a block of logits, with room for the last vector of the last head.
    template <class T>
    int64_t block() const;
};

constexpr int64_t kBiRows = 192;     // rows of a block
constexpr int64_t kBiSegments = 16;  // a multiple of the usual numbers of threads

template <class T>
int64_t BiSizes::block() const {
    return kBiRows * width<T>() + lanes<T>();
}

struct BiSegments {
    int64_t rows, count;
    explicit BiSegments(int64_t n) : rows(std::max(kBiRows, (n + kBiSegments - 1) / kBiSegments)) {
        count = (n + rows - 1) / rows;
    }
};

// p = softmax of l + mask over n values, n a multiple of lanes<T>(). Heads are stored side by side and need not end at
// a vector: the mask is -inf beyond the tokens of a head, and the next head overwrites what is written there.
template <class T>
inline void masked_softmax(const T* l, const T* mask, T* p, int64_t n) {
    for (int64_t t = 0; t < n; ++t) p[t] = l[t] + mask[t];
    row_softmax(p, n);
}

template <class T>
inline void padding_mask(const bool* padding, T* mask, int64_t tokens, int64_t n) {
    for (int64_t t = 0; t < n; ++t) mask[t] = t < tokens && !padding[t] ? T(0) : T(-INFINITY);
}

// Softmax over the image rows of one segment: maximum, sum (width each) and weighted rows (columns, depth).
template <class T>
struct BiPartial {
    T *top, *sum, *rows;
    BiPartial(T* store, const BiSizes& z, int64_t segment) {
        const int64_t width = z.width<T>();
        top = store + segment * size(z);
        sum = top + width;
        rows = sum + width;
    }
    static int64_t size(const BiSizes& z) { return z.width<T>() * (z.depth + 2); }
};

// buffer: logits, probabilities (block() each), earlier maxima (width()); zeros at first.
template <class T>
void bi_forward_segment(const T* x, const T* keys, const T* key_bias, const T* values, const bool* image_padding,
                        const T* text_mask, T* out, BiPartial<T> partial, T* buffer, int64_t n, const BiSizes& z) {
    typedef typename Vector<T>::type V;
    const int64_t columns = z.columns(), width = z.width<T>();
    T *logits = buffer, *probs = logits + z.block<T>(), *before = probs + z.block<T>();
    std::fill_n(partial.top, width, T(-INFINITY));
    std::memset(partial.sum, 0, (BiPartial<T>::size(z) - width) * sizeof(T));
    for (int64_t first = 0; first < n; first += kBiRows) {
        const int64_t rows = std::min(kBiRows, n - first);
        const T* block = x + first * z.depth;
        gemm(false, true, rows, columns, z.depth, T(1), block, z.depth, keys, z.depth, T(0), logits, width);
        std::memcpy(before, partial.top, width * sizeof(T));
        for (int64_t r = 0; r < rows; ++r) {
            T* l = logits + r * width;
            for (int64_t c = 0; c < columns; ++c) l[c] += key_bias[c];
            if (!image_padding[first + r])
                for (int64_t c = 0; c < width; ++c) partial.top[c] = l[c] > partial.top[c] ? l[c] : partial.top[c];
            for (int64_t h = 0; h < z.heads; ++h)
                masked_softmax(l + h * z.tokens, text_mask, probs + r * width + h * z.tokens, z.head_width<T>());
        }
        gemm(false, false, rows, z.depth, columns, T(1), probs, width, values, z.depth, T(0), out + first * z.depth,
             z.depth);
        for (int64_t c = 0; c < columns; ++c) {
            if (partial.top[c] == before[c]) continue;
            const T scale = fast_exp(before[c] - partial.top[c]);
            partial.sum[c] *= scale;
            for (int64_t i = 0; i < z.depth; ++i) partial.rows[c * z.depth + i] *= scale;
        }
        for (int64_t r = 0; r < rows; ++r) {
            T* l = logits + r * width;
            if (image_padding[first + r]) {
                std::memset(l, 0, width * sizeof(T));
                continue;
            }
            for (int64_t c = 0; c < width; c += lanes<T>()) {
                V &e = *reinterpret_cast<V*>(l + c), &sum = *reinterpret_cast<V*>(partial.sum + c);
                e = exp_of_negative(e - *reinterpret_cast<const V*>(partial.top + c));
                sum += e;
            }
            std::memset(l + columns, 0, (width - columns) * sizeof(T));
        }
        gemm(true, false, columns, z.depth, rows, T(1), logits, width, block, z.depth, T(1), partial.rows, z.depth);
    }
}

// lse (batch, columns) is the logarithm of the sum over image rows, for the backward pass.
template <class T>
void bi_attention_forward(const T* image, const T* keys, const T* key_bias, const T* values, const bool* image_padding,
                          const bool* text_padding, T* out, T* context, T* lse, BiSizes z) {
    const int64_t columns = z.columns();
    const BiSegments segments(z.n);
    if (z.n == 0) {
        std::memset(context, 0, z.batch * columns * z.depth * sizeof(T));
        std::memset(lse, 0, z.batch * columns * sizeof(T));
        return;
    }
    Scratch<T> store(segments.count * BiPartial<T>::size(z));
#pragma omp parallel
    {
        Scratch<T> buffer(2 * z.block<T>() + z.width<T>()), mask(z.head_width<T>());
        std::memset(buffer.get(), 0, 2 * z.block<T>() * sizeof(T));
        for (int64_t b = 0; b < z.batch; ++b) {
            const int64_t text = b * columns, i = z.images == 1 ? 0 : b;
            padding_mask(text_padding + b * z.tokens, mask.get(), z.tokens, z.head_width<T>());
#pragma omp for schedule(dynamic)
            for (int64_t s = 0; s < segments.count; ++s) {
                const int64_t first = s * segments.rows, rows = std::min(segments.rows, z.n - first);
                bi_forward_segment(image + (i * z.n + first) * z.depth, keys + text * z.depth, key_bias + text,
                                   values + text * z.depth, image_padding + i * z.n + first, mask.get(),
                                   out + (b * z.n + first) * z.depth, BiPartial<T>(store.get(), z, s), buffer.get(),
                                   rows, z);
            }
#pragma omp for
            for (int64_t c = 0; c < columns; ++c) {
                T top = -INFINITY, sum = 0;
                for (int64_t s = 0; s < segments.count; ++s)
                    top = std::max(top, BiPartial<T>(store.get(), z, s).top[c]);
                T* y = context + (text + c) * z.depth;
                std::memset(y, 0, z.depth * sizeof(T));
                for (int64_t s = 0; s < segments.count; ++s) {
                    const BiPartial<T> partial(store.get(), z, s);
                    const T scale = fast_exp(partial.top[c] - top);
                    sum += scale * partial.sum[c];
                    for (int64_t k = 0; k < z.depth; ++k) y[k] += scale * partial.rows[c * z.depth + k];
                }
                const T scale = 1 / sum;
                for (int64_t k = 0; k < z.depth; ++k) y[k] *= scale;
                lse[text + c] = top + std::log(sum);
            }
        }
    }
}

// Gradients of one segment; dkeys, dvalues (columns, depth) and dkey_bias (columns) are its own and start at zero.
template <class T>
void bi_backward_segment(const T* x, const T* keys, const T* key_bias, const T* values, const bool* image_padding,
                         const T* text_mask, const T* lse, const T* delta, const T* dout, const T* dcontext, bool add,
                         T* dx, T* dkeys, T* dkey_bias, T* dvalues, T* buffer, int64_t n, const BiSizes& z) {
    const int64_t columns = z.columns(), width = z.width<T>(), d = z.depth, size = z.block<T>();
    T *logits = buffer, *text_side = logits + size, *image_side = text_side + size, *probs = image_side + size;
    for (int64_t first = 0; first < n; first += kBiRows) {
        const int64_t rows = std::min(kBiRows, n - first);
        const T *block = x + first * d, *g = dout + first * d;
        gemm(false, true, rows, columns, d, T(1), block, d, keys, d, T(0), logits, width);
        gemm(false, true, rows, columns, d, T(1), g, d, values, d, T(0), text_side, width);
        gemm(false, true, rows, columns, d, T(1), block, d, dcontext, d, T(0), image_side, width);
        for (int64_t r = 0; r < rows; ++r) {
            T *l = logits + r * width, *dp = text_side + r * width, *dc = image_side + r * width;
            for (int64_t c = 0; c < columns; ++c) l[c] += key_bias[c];
            // From here on: dp holds probabilities over text, dc those over image rows, l gradients of the logits.
            for (int64_t h = 0; h < z.heads; ++h) {
                T *lh = l + h * z.tokens, *dph = dp + h * z.tokens, *dch = dc + h * z.tokens;
                const T *lse_h = lse + h * z.tokens, *delta_h = delta + h * z.tokens;
                masked_softmax(lh, text_mask, probs, z.head_width<T>());
                T mean = 0;
                for (int64_t t = 0; t < z.tokens; ++t) mean += probs[t] * dph[t];
                const T keep = image_padding[first + r] ? 0 : 1;
                for (int64_t t = 0; t < z.tokens; ++t) {
                    const T weight = keep != 0 ? fast_exp(lh[t] - lse_h[t]) : T(0);
                    lh[t] = probs[t] * (dph[t] - mean) + weight * (dch[t] - delta_h[t]);
                    dch[t] = weight;
                    dph[t] = probs[t];
                }
            }
            for (int64_t c = 0; c < columns; ++c) dkey_bias[c] += l[c];
        }
        gemm(false, false, rows, d, columns, T(1), logits, width, keys, d, T(add), dx + first * d, d);
        gemm(false, false, rows, d, columns, T(1), image_side, width, dcontext, d, T(1), dx + first * d, d);
        gemm(true, false, columns, d, rows, T(1), logits, width, block, d, T(1), dkeys, d);
        gemm(true, false, columns, d, rows, T(1), text_side, width, g, d, T(1), dvalues, d);
    }
}

template <class T>
void bi_attention_backward(const T* image, const T* keys, const T* key_bias, const T* values, const bool* image_padding,
                           const bool* text_padding, const T* context, const T* lse, const T* dout, const T* dcontext,
                           T* dimage, T* dkeys, T* dkey_bias, T* dvalues, BiSizes z) {
    const int64_t columns = z.columns(), matrix = columns * z.depth;
    const BiSegments segments(z.n);
    const int64_t stride = 2 * matrix + columns;  // dkeys, dvalues, dkey_bias of a segment
    if (z.batch == 0) std::memset(dimage, 0, z.images * z.n * z.depth * sizeof(T));
    Scratch<T> store(segments.count * stride), delta(columns);
    const auto merge = [&](const T* part, T* y, int64_t size) {
        std::memset(y, 0, size * sizeof(T));
        for (int64_t s = 0; s < segments.count; ++s)
            for (int64_t k = 0; k < size; ++k) y[k] += part[s * stride + k];
    };
#pragma omp parallel
    {
        Scratch<T> buffer(3 * z.block<T>() + z.head_width<T>()), mask(z.head_width<T>());
        std::memset(buffer.get(), 0, 3 * z.block<T>() * sizeof(T));
        for (int64_t b = 0; b < z.batch; ++b) {
            const int64_t text = b * columns, i = z.images == 1 ? 0 : b;
            padding_mask(text_padding + b * z.tokens, mask.get(), z.tokens, z.head_width<T>());
#pragma omp for
            for (int64_t c = 0; c < columns; ++c) {
                T sum = 0;
                for (int64_t k = 0; k < z.depth; ++k)
                    sum += context[(text + c) * z.depth + k] * dcontext[(text + c) * z.depth + k];
                delta.get()[c] = sum;
            }
#pragma omp for schedule(dynamic)
            for (int64_t s = 0; s < segments.count; ++s) {
                const int64_t first = s * segments.rows, rows = std::min(segments.rows, z.n - first);
                T* part = store.get() + s * stride;
                std::memset(part, 0, stride * sizeof(T));
                bi_backward_segment(image + (i * z.n + first) * z.depth, keys + text * z.depth, key_bias + text,
                                    values + text * z.depth, image_padding + i * z.n + first,
                                    mask.get(), lse + text, delta.get(),
                                    dout + (b * z.n + first) * z.depth, dcontext + text * z.depth, b > i,
                                    dimage + (i * z.n + first) * z.depth, part, part + 2 * matrix, part + matrix,
                                    buffer.get(), rows, z);
            }
#pragma omp for
            for (int64_t c = 0; c < columns; ++c) {
                const T* part = store.get();
                merge(part + c * z.depth, dkeys + (text + c) * z.depth, z.depth);
                merge(part + matrix + c * z.depth, dvalues + (text + c) * z.depth, z.depth);
                merge(part + 2 * matrix + c, dkey_bias + text + c, 1);
            }
        }
    }
}

}  // namespace ovd
