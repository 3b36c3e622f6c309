// Multi-scale deformable attention (Zhu et al. 2021, section 4.1): every query adds up levels * points bilinear samples
// per head, each times its attention weight.
//
// For a tile of queries at once, the pixels and weights of the four corners of each sample are computed, in a loop that
// is vectorised over the samples. A corner outside the image gets weight 0 and the nearest pixel, so the loops over the
// channels, which are also vectorised, have no branches.

namespace ovd {

constexpr int64_t kTile = 16;   // queries of a tile: few enough for their corners to stay in the L1 cache
constexpr int64_t kAhead = 32;  // samples between the prefetch of a pixel and its use; affects only the speed

struct Level {
    int64_t height, width, start;
};

struct Deformable {
    int64_t batch, pixels, heads, dim, queries, points;
    std::vector<Level> levels;
};

// As many T as the widest vector register holds, at an address that need not be aligned.
template <class T>
struct Wide {
    typedef T type __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));
};

template <class T>
inline T clamp(T x, T low, T high) {
    return x < low ? low : (x > high ? high : x);
}

// Corners of the samples of a tile: all upper left ones first, then upper right, lower left, lower right.
template <class T>
struct Corners {
    int64_t pitch;  // samples of a tile
    std::vector<int32_t> pixel;
    std::vector<T> weight;  // attention * bilinear, 0 outside
    std::vector<T> inside;  // 1 or 0
    std::vector<T> dx, dy;  // (pitch), of the sample from its upper left corner

    explicit Corners(int64_t pitch)
        : pitch(pitch), pixel(4 * pitch + kAhead), weight(4 * pitch), inside(4 * pitch), dx(pitch), dy(pitch) {}
};

// Computes the corners of rows of samples. Holds the level size of each sample of a row.
template <class T>
struct Grid {
    std::vector<T> width, height;
    std::vector<int32_t> columns, lines, start;

    void add(const Level& level, int64_t times) {
        width.insert(width.end(), times, T(level.width));
        height.insert(height.end(), times, T(level.height));
        columns.insert(columns.end(), times, int32_t(level.width));
        lines.insert(lines.end(), times, int32_t(level.height));
        start.insert(start.end(), times, int32_t(level.start));
    }

    // xy (n, 2), attention (n): the first n samples of a row become the corners from `first` on. What only the gradient
    // needs costs a fifth of the forward pass and is therefore left out there.
    template <bool kGradient>
    void place(const T* xy, const T* attention, int64_t n, Corners<T>& to, int64_t first) const {
        const int64_t pitch = to.pitch;
        const T *width = this->width.data(), *height = this->height.data();
        const int32_t *columns = this->columns.data(), *lines = this->lines.data(), *start = this->start.data();
        int32_t* pixel = to.pixel.data() + first;
        T *weight = to.weight.data() + first, *inside = to.inside.data() + first;
        T *dx = to.dx.data() + first, *dy = to.dy.data() + first;
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) {
            T x = xy[2 * i] * width[i] - T(0.5), y = xy[2 * i + 1] * height[i] - T(0.5);
            // Positions further than two pixels outside are clamped to fit into an integer, and so is NaN.
            x = x > T(-2) ? x : T(-2);
            y = y > T(-2) ? y : T(-2);
            x = x < width[i] ? x : width[i];
            y = y < height[i] ? y : height[i];
            const T left = std::floor(x), top = std::floor(y), ax = x - left, ay = y - top;
            const int32_t c = int32_t(left), l = int32_t(top), last_c = columns[i] - 1, last_l = lines[i] - 1;
            const T c0 = (c >= 0) & (c <= last_c) ? T(1) : T(0), c1 = (c >= -1) & (c < last_c) ? T(1) : T(0);
            const T l0 = (l >= 0) & (l <= last_l) ? T(1) : T(0), l1 = (l >= -1) & (l < last_l) ? T(1) : T(0);
            const int32_t left_pixel = start[i] + clamp(c, 0, last_c), right_pixel = start[i] + clamp(c + 1, 0, last_c);
            const int32_t upper = clamp(l, 0, last_l) * columns[i], lower = clamp(l + 1, 0, last_l) * columns[i];
            pixel[i] = upper + left_pixel;
            pixel[pitch + i] = upper + right_pixel;
            pixel[2 * pitch + i] = lower + left_pixel;
            pixel[3 * pitch + i] = lower + right_pixel;
            weight[i] = attention[i] * (l0 * (T(1) - ay)) * (c0 * (T(1) - ax));
            weight[pitch + i] = attention[i] * (l0 * (T(1) - ay)) * (c1 * ax);
            weight[2 * pitch + i] = attention[i] * (l1 * ay) * (c0 * (T(1) - ax));
            weight[3 * pitch + i] = attention[i] * (l1 * ay) * (c1 * ax);
            if (kGradient) {
                inside[i] = l0 * c0;
                inside[pitch + i] = l0 * c1;
                inside[2 * pitch + i] = l1 * c0;
                inside[3 * pitch + i] = l1 * c1;
                dx[i] = ax;
                dy[i] = ay;
            }
        }
    }
};

// The first channels, kCount times the width of V, of one query and head: the sum of the samples first … last - 1.
template <class V, int kCount, class T>
inline void gather(const T* value, int64_t stride, const Corners<T>& corners, int64_t first, int64_t last, T* out) {
    constexpr int64_t lanes = sizeof(V) / sizeof(T);
    const int64_t pitch = corners.pitch;
    const int32_t* pixel = corners.pixel.data();
    const T* weight = corners.weight.data();
    V sum[kCount] = {};
    for (int64_t i = first; i < last; ++i) {
        const T *p0 = value + pixel[i] * stride, *p1 = value + pixel[pitch + i] * stride;
        const T *p2 = value + pixel[2 * pitch + i] * stride, *p3 = value + pixel[3 * pitch + i] * stride;
        const T w0 = weight[i], w1 = weight[pitch + i], w2 = weight[2 * pitch + i], w3 = weight[3 * pitch + i];
        for (int k = 0; k < kCount; ++k) {
            for (int c = 0; c < 4; ++c)
                __builtin_prefetch(value + pixel[c * pitch + i + kAhead] * stride + k * lanes, 0, 2);
            sum[k] += (w0 * *(const V*)(p0 + k * lanes) + w1 * *(const V*)(p1 + k * lanes)) +
                      (w2 * *(const V*)(p2 + k * lanes) + w3 * *(const V*)(p3 + k * lanes));
        }
    }
    for (int k = 0; k < kCount; ++k) *(V*)(out + k * lanes) = sum[k];
}

// value (B, S, H, D), xy (B, Q, H, L, P, 2), attention (B, Q, H, L, P) -> out (B, Q, H, D)
template <class T>
void deformable_forward(const T* value, const T* xy, const T* attention, T* out, const Deformable& shape) {
    typedef typename Wide<T>::type V;
    constexpr int64_t lanes = sizeof(V) / sizeof(T);
    const int64_t heads = shape.heads, dim = shape.dim, stride = heads * dim, queries = shape.queries;
    const int64_t tiles = (queries + kTile - 1) / kTile, samples = int64_t(shape.levels.size()) * shape.points;
    Grid<T> grid;
    for (const Level& level : shape.levels) grid.add(level, shape.points);
#pragma omp parallel
    {
        Corners<T> corners(kTile * samples);
#pragma omp for collapse(3) schedule(static)
        for (int64_t b = 0; b < shape.batch; ++b)
            for (int64_t tile = 0; tile < tiles; ++tile)
                for (int64_t h = 0; h < heads; ++h) {
                    const int64_t first = tile * kTile, count = std::min(kTile, queries - first);
                    const int64_t row = (b * queries + first) * heads + h;
                    for (int64_t q = 0; q < count; ++q) {
                        const int64_t at = (row + q * heads) * samples;
                        grid.template place<false>(xy + 2 * at, attention + at, samples, corners, q * samples);
                    }
                    const T* v = value + (b * shape.pixels * heads + h) * dim;
                    for (int64_t q = 0; q < count; ++q) {
                        const int64_t i = q * samples, end = i + samples;
                        T* o = out + (row + q * heads) * dim;
                        int64_t d = 0;
                        for (; d + 2 * lanes <= dim; d += 2 * lanes)
                            gather<V, 2>(v + d, stride, corners, i, end, o + d);
                        for (; d + lanes <= dim; d += lanes) gather<V, 1>(v + d, stride, corners, i, end, o + d);
                        for (; d < dim; ++d) gather<T, 1>(v + d, stride, corners, i, end, o + d);
                    }
                }
    }
}

template <class T>
inline T total(typename Wide<T>::type x) {
    T sum = 0;
    for (size_t i = 0; i < sizeof(x) / sizeof(T); ++i) sum += x[i];
    return sum;
}

// dvalue += weight * grad; returns value . grad
template <class T, int64_t kDim>
inline T scatter(const T* value, T* dvalue, const T* grad, T weight, int64_t any_dim) {
    typedef typename Wide<T>::type V;
    constexpr int64_t lanes = sizeof(V) / sizeof(T);
    const int64_t dim = kDim ? kDim : any_dim;
    V sum = {};
    int64_t d = 0;
    for (; d + lanes <= dim; d += lanes) {
        const V g = *(const V*)(grad + d);
        sum += *(const V*)(value + d) * g;
        *(V*)(dvalue + d) += weight * g;
    }
    T dot = total<T>(sum);
    for (; d < dim; ++d) {
        dot += value[d] * grad[d];
        dvalue[d] += weight * grad[d];
    }
    return dot;
}

// One level of one head of one image: no other thread touches its part of dvalue.
template <class T, int64_t kDim>
void deformable_backward_level(const T* value, const T* xy, const T* attention, const T* grad, T* dvalue, T* dxy,
                               T* dattention, const Deformable& shape, int64_t b, int64_t h, int64_t l) {
    const int64_t heads = shape.heads, dim = shape.dim, stride = heads * dim, queries = shape.queries;
    const int64_t points = shape.points, levels = int64_t(shape.levels.size());
    const T width = T(shape.levels[l].width), height = T(shape.levels[l].height);
    const T* v = value + (b * shape.pixels * heads + h) * dim;
    T* dv = dvalue + (b * shape.pixels * heads + h) * dim;
    Grid<T> grid;
    grid.add(shape.levels[l], kTile * points);
    const int64_t pitch = kTile * points;
    Corners<T> corners(pitch);
    std::vector<T> tile_xy(2 * pitch), tile_attention(pitch), dot(4 * pitch);
    for (int64_t first = 0; first < queries; first += kTile) {
        const int64_t count = std::min(kTile, queries - first), n = count * points;
        const int64_t row = (b * queries + first) * heads + h;
        for (int64_t q = 0; q < count; ++q) {
            const int64_t at = ((row + q * heads) * levels + l) * points;
            std::copy(xy + 2 * at, xy + 2 * (at + points), &tile_xy[2 * q * points]);
            std::copy(attention + at, attention + at + points, &tile_attention[q * points]);
        }
        grid.template place<true>(tile_xy.data(), tile_attention.data(), n, corners, 0);
        for (int64_t q = 0; q < count; ++q) {
            const T* g = grad + (row + q * heads) * dim;
            for (int64_t i = q * points; i < (q + 1) * points; ++i)
                for (int64_t c = 0; c < 4; ++c) {
                    const int64_t j = c * pitch + i, at = corners.pixel[j] * stride;
                    dot[j] = scatter<T, kDim>(v + at, dv + at, g, corners.weight[j], dim);
                }
        }
        for (int64_t i = 0; i < n; ++i) {
            const T s0 = dot[i] * corners.inside[i], s1 = dot[pitch + i] * corners.inside[pitch + i];
            const T s2 = dot[2 * pitch + i] * corners.inside[2 * pitch + i];
            const T s3 = dot[3 * pitch + i] * corners.inside[3 * pitch + i];
            const T ax = corners.dx[i], ay = corners.dy[i], upper = s0 + ax * (s1 - s0), lower = s2 + ax * (s3 - s2);
            tile_xy[2 * i] = tile_attention[i] * width * ((s1 - s0) + ay * ((s3 - s2) - (s1 - s0)));
            tile_xy[2 * i + 1] = tile_attention[i] * height * (lower - upper);
            tile_attention[i] = upper + ay * (lower - upper);
        }
        for (int64_t q = 0; q < count; ++q) {
            const int64_t at = ((row + q * heads) * levels + l) * points;
            std::copy(&tile_xy[2 * q * points], &tile_xy[2 * q * points] + 2 * points, dxy + 2 * at);
            std::copy(&tile_attention[q * points], &tile_attention[q * points] + points, dattention + at);
        }
    }
}

// grad (B, Q, H, D) -> dvalue, dxy, dattention of the shapes of value, xy, attention
template <class T>
void deformable_backward(const T* value, const T* xy, const T* attention, const T* grad, T* dvalue, T* dxy,
                         T* dattention, const Deformable& shape) {
    const int64_t pixels = shape.batch * shape.pixels, stride = shape.heads * shape.dim;
    const int64_t levels = int64_t(shape.levels.size());
    const auto level = shape.dim == 32 ? deformable_backward_level<T, 32> : deformable_backward_level<T, 0>;
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t s = 0; s < pixels; ++s) std::fill(dvalue + s * stride, dvalue + (s + 1) * stride, T(0));
#pragma omp for collapse(3) schedule(dynamic)
        for (int64_t b = 0; b < shape.batch; ++b)
            for (int64_t l = 0; l < levels; ++l)
                for (int64_t h = 0; h < shape.heads; ++h)
                    level(value, xy, attention, grad, dvalue, dxy, dattention, shape, b, h, l);
    }
}

}  // namespace ovd
