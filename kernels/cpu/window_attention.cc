// Attention inside the windows of a map, without copies of windows: each token is read and written once.

namespace ovd {

struct WindowSizes {
    int64_t batch, height, width, channels, heads, window, shift;
    int64_t depth() const { return channels / heads; }
    int64_t tokens() const { return window * window; }
    int64_t down() const { return (height + window - 1) / window; }
    int64_t across() const { return (width + window - 1) / window; }
    int64_t windows() const { return batch * down() * across(); }
};

constexpr int64_t kWindowSegments = 16;  // shares of the windows in the backward pass, whatever the number of threads

// Positions of the tokens of a window: index of each token in the batch of maps (-1 for padding) and region of the map.
struct WindowTokens {
    std::vector<int64_t> index;
    std::vector<int> region;
    bool mixed = false;  // more than one region

    void locate(const WindowSizes& z, int64_t number) {
        const int64_t across = z.across(), down = z.down(), b = number / (across * down);
        const int64_t top = number / across % down * z.window, left = number % across * z.window;
        index.resize(z.tokens());
        region.resize(z.tokens());
        for (int64_t t = 0; t < z.tokens(); ++t) {
            const int64_t y = top + t / z.window, x = left + t % z.window;
            const int64_t from_y = (y + z.shift) % (down * z.window), from_x = (x + z.shift) % (across * z.window);
            const bool inside = from_y < z.height && from_x < z.width;
            index[t] = inside ? (b * z.height + from_y) * z.width + from_x : -1;
            region[t] = z.shift ? 3 * part(y, down * z.window, z) + part(x, across * z.window, z) : 0;
        }
        mixed = region.front() != region.back();
    }

  private:
    static int part(int64_t at, int64_t size, const WindowSizes& z) {
        return (at >= size - z.window) + (at >= size - z.shift);
    }
};

// Buffers for one window: q (rows, width), kt (width, columns) and v (rows, width) of every head, because the tokens of
// a window lie side by side in memory with all heads; logits or probabilities p (rows, columns) and output o (rows,
// width) of one head. Rows are padded to whole tiles, columns and width to whole vectors.
template <class T>
struct WindowHeads {
    const int64_t rows, columns, width, heads;
    Scratch<T> memory;
    T *queries, *keys, *values, *p, *o;

    explicit WindowHeads(const WindowSizes& z)
        : rows(round_up(z.tokens(), kTileRows)), columns(round_up(z.tokens(), lanes<T>())),
          width(round_up(z.depth(), lanes<T>())), heads(z.heads),
          memory((2 * heads + 1) * rows * width + heads * width * columns + rows * columns), queries(memory.get()),
          keys(queries + heads * rows * width), values(keys + heads * width * columns),
          p(values + heads * rows * width), o(p + rows * columns) {
        std::memset(memory.get(), 0, (o + rows * width - memory.get()) * sizeof(T));
    }
    T* q(int64_t head) const { return queries + head * rows * width; }
    T* kt(int64_t head) const { return keys + head * width * columns; }
    T* v(int64_t head) const { return values + head * rows * width; }

    // q is scaled on the way.
    void gather(const T* qkv, const T* qkv_bias, const WindowTokens& at, const WindowSizes& z) {
        const int64_t d = z.depth(), c = z.channels;
        const T scale = T(1) / std::sqrt(T(d));
        for (int64_t t = 0; t < z.tokens(); ++t) {
            const T* token = at.index[t] < 0 ? qkv_bias : qkv + at.index[t] * 3 * c;
            for (int64_t h = 0; h < heads; ++h) {
                const T* from = token + h * d;
                T *to_q = q(h) + t * width, *to_k = kt(h) + t;
                for (int64_t i = 0; i < d; ++i) to_q[i] = scale * from[i];
                for (int64_t i = 0; i < d; ++i) to_k[i * columns] = from[c + i];
                std::memcpy(v(h) + t * width, from + 2 * c, d * sizeof(T));
            }
        }
    }

    // p = softmax of the logits; bias (tokens, columns) is -inf in its padded columns.
    void probabilities(int64_t head, const T* bias, const WindowTokens& at, const WindowSizes& z) {
        tile_product(rows, columns, z.depth(), q(head), width, int64_t(1), kt(head), columns, p, columns);
        for (int64_t i = 0; i < z.tokens(); ++i) {
            T* row = p + i * columns;
            const T* add = bias + i * columns;
            if (at.mixed)
                for (int64_t j = 0; j < z.tokens(); ++j) row[j] += at.region[i] == at.region[j] ? T(0) : T(-100);
            for (int64_t j = 0; j < columns; ++j) row[j] += add[j];
            row_softmax(row, columns);
        }
    }
};

// position_bias (heads, tokens, tokens) with columns up to whole vectors, -inf there.
template <class T>
inline void pad_position_bias(const T* position_bias, T* padded, int64_t columns, const WindowSizes& z) {
    for (int64_t i = 0; i < z.heads * z.tokens(); ++i) {
        std::fill_n(padded + i * columns, columns, T(-INFINITY));
        std::memcpy(padded + i * columns, position_bias + i * z.tokens(), z.tokens() * sizeof(T));
    }
}

template <class T>
void window_attention_forward(const T* qkv, const T* qkv_bias, const T* position_bias, T* out, WindowSizes z) {
    const int64_t columns = round_up(z.tokens(), lanes<T>()), tokens = z.tokens(), d = z.depth();
    Scratch<T> bias(z.heads * tokens * columns);
    pad_position_bias(position_bias, bias.get(), columns, z);
#pragma omp parallel
    {
        WindowTokens at;
        WindowHeads<T> w(z);
#pragma omp for schedule(dynamic, 4)
        for (int64_t number = 0; number < z.windows(); ++number) {
            at.locate(z, number);
            w.gather(qkv, qkv_bias, at, z);
            for (int64_t h = 0; h < z.heads; ++h) {
                w.probabilities(h, bias.get() + h * tokens * columns, at, z);
                tile_product(w.rows, w.width, tokens, w.p, columns, int64_t(1), w.v(h), w.width, w.o, w.width);
                for (int64_t t = 0; t < tokens; ++t)
                    if (at.index[t] >= 0)
                        std::memcpy(out + at.index[t] * z.channels + h * d, w.o + t * w.width, d * sizeof(T));
            }
        }
    }
}

// What the backward pass of a head needs beside WindowHeads: k (rows, width) and vt (width, columns), gradients of the
// output (rows, width), of probabilities and logits (rows, columns), and of q, k, v (rows, width) each.
template <class T>
struct WindowHeadGradient {
    Scratch<T> memory;
    T *k, *vt, *dout, *dp, *dq, *dk, *dv;

    WindowHeadGradient(const WindowHeads<T>& w)
        : memory(5 * w.rows * w.width + w.width * w.columns + w.rows * w.columns), k(memory.get()),
          vt(k + w.rows * w.width), dout(vt + w.width * w.columns), dp(dout + w.rows * w.width),
          dq(dp + w.rows * w.columns), dk(dq + w.rows * w.width), dv(dk + w.rows * w.width) {
        std::memset(memory.get(), 0, (dv + w.rows * w.width - memory.get()) * sizeof(T));
    }

    void gather(const T* grad, const WindowHeads<T>& w, const WindowTokens& at, int64_t head, const WindowSizes& z) {
        const int64_t d = z.depth();
        for (int64_t t = 0; t < z.tokens(); ++t) {
            for (int64_t i = 0; i < d; ++i) k[t * w.width + i] = w.kt(head)[i * w.columns + t];
            for (int64_t i = 0; i < d; ++i) vt[i * w.columns + t] = w.v(head)[t * w.width + i];
            if (at.index[t] < 0)  // cropped away
                std::memset(dout + t * w.width, 0, d * sizeof(T));
            else
                std::memcpy(dout + t * w.width, grad + at.index[t] * z.channels + head * d, d * sizeof(T));
        }
    }

    // Gradients of this head; dbias (tokens, tokens) is added to.
    void compute(const WindowHeads<T>& w, int64_t head, T* dbias, const WindowSizes& z) {
        const int64_t tokens = z.tokens(), one = 1;
        tile_product(w.rows, w.columns, z.depth(), dout, w.width, one, vt, w.columns, dp, w.columns);
        for (int64_t i = 0; i < tokens; ++i) {
            const T* p = w.p + i * w.columns;
            T *g = dp + i * w.columns, mean = 0;
            for (int64_t j = 0; j < tokens; ++j) mean += p[j] * g[j];
            for (int64_t j = 0; j < tokens; ++j) {
                g[j] = p[j] * (g[j] - mean);
                dbias[i * tokens + j] += g[j];
            }
        }
        tile_product(w.rows, w.width, tokens, dp, w.columns, one, k, w.width, dq, w.width);
        tile_product(w.rows, w.width, tokens, dp, one, w.columns, w.q(head), w.width, dk, w.width);
        tile_product(w.rows, w.width, tokens, w.p, one, w.columns, dout, w.width, dv, w.width);
    }
};

template <class T>
void window_attention_backward(const T* qkv, const T* qkv_bias, const T* position_bias, const T* grad, T* dqkv,
                               T* dqkv_bias, T* dposition_bias, WindowSizes z) {
    const int64_t columns = round_up(z.tokens(), lanes<T>()), tokens = z.tokens(), d = z.depth(), c = z.channels;
    const int64_t square = z.heads * tokens * tokens, stride = square + 3 * c;
    const int64_t share = (z.windows() + kWindowSegments - 1) / kWindowSegments;
    const T scale = T(1) / std::sqrt(T(d));
    Scratch<T> bias(z.heads * tokens * columns), partial(kWindowSegments * stride);
    pad_position_bias(position_bias, bias.get(), columns, z);
#pragma omp parallel
    {
        WindowTokens at;
        WindowHeads<T> w(z);
        WindowHeadGradient<T> g(w);
#pragma omp for schedule(dynamic)
        for (int64_t segment = 0; segment < kWindowSegments; ++segment) {
            T *dposition = partial.get() + segment * stride, *dpadding = dposition + square;
            std::memset(dposition, 0, stride * sizeof(T));
            const int64_t last = std::min(z.windows(), (segment + 1) * share);
            for (int64_t number = segment * share; number < last; ++number) {
                at.locate(z, number);
                w.gather(qkv, qkv_bias, at, z);
                for (int64_t h = 0; h < z.heads; ++h) {
                    w.probabilities(h, bias.get() + h * tokens * columns, at, z);
                    g.gather(grad, w, at, h, z);
                    g.compute(w, h, dposition + h * tokens * tokens, z);
                    for (int64_t t = 0; t < tokens; ++t) {
                        const T *dq = g.dq + t * w.width, *dk = g.dk + t * w.width, *dv = g.dv + t * w.width;
                        if (at.index[t] < 0) {
                            T* to = dpadding + h * d;  // the gradient of q is zero
                            for (int64_t i = 0; i < d; ++i) to[c + i] += dk[i];
                            for (int64_t i = 0; i < d; ++i) to[2 * c + i] += dv[i];
                        } else {
                            T* to = dqkv + at.index[t] * 3 * c + h * d;
                            for (int64_t i = 0; i < d; ++i) to[i] = scale * dq[i];
                            std::memcpy(to + c, dk, d * sizeof(T));
                            std::memcpy(to + 2 * c, dv, d * sizeof(T));
                        }
                    }
                }
            }
        }
#pragma omp for
        for (int64_t i = 0; i < stride; ++i) {
            T sum = 0;
            for (int64_t segment = 0; segment < kWindowSegments; ++segment) sum += partial.get()[segment * stride + i];
            (i < square ? dposition_bias[i] : dqkv_bias[i - square]) = sum;
        }
    }
}

}  // namespace ovd
