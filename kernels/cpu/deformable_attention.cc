// Multi-scale deformable attention (Zhu et al. 2021, section 4.1): every query reads L * P bilinear samples per head.
//
// The samples of one head and query are first turned into rows of the value and weights of their four corners, all in
// one vectorised loop; a corner outside the image gets the weight 0 and the row of the nearest pixel, so that the loop
// over the width has no branches.

namespace ovd {

struct Level {
    int64_t height, width, start;
};

template <class T>
inline T clamp(T x, T low, T high) {
    return x < low ? low : (x > high ? high : x);
}

// Corners of `n` samples of one head: rows (4, n) and weights (4, n), without the attention weight.
template <class T>
struct Samples {
    int64_t levels, points, n;
    std::vector<T> width, height, fx, fy, weights;
    std::vector<int32_t> columns, lines, start, rows;

    Samples(const Level* level, int64_t levels, int64_t points) : levels(levels), points(points), n(levels * points) {
        for (int64_t l = 0; l < levels; ++l)
            for (int64_t p = 0; p < points; ++p) {
                width.push_back(T(level[l].width));
                height.push_back(T(level[l].height));
                columns.push_back(int32_t(level[l].width));
                lines.push_back(int32_t(level[l].height));
                start.push_back(int32_t(level[l].start));
            }
        fx.resize(n);
        fy.resize(n);
        weights.resize(4 * n);
        rows.resize(4 * n);
    }

    void place(const T* xy) {
        for (int64_t i = 0; i < n; ++i) {
            // Beyond a pixel outside nothing is left of a sample; NaN goes there as well.
            T x = xy[2 * i] * width[i] - T(0.5), y = xy[2 * i + 1] * height[i] - T(0.5);
            const bool inside = x > T(-1) && y > T(-1) && x < width[i] && y < height[i];
            x = inside ? x : T(-2);
            y = inside ? y : T(-2);
            const T left = std::floor(x), top = std::floor(y);
            const int32_t x0 = int32_t(left), y0 = int32_t(top);
            const int32_t last_x = columns[i] - 1, last_y = lines[i] - 1;
            const T rx = x - left, ry = y - top;
            const T wx0 = x0 >= 0 ? T(1) - rx : T(0), wx1 = x0 + 1 >= 0 && x0 < last_x ? rx : T(0);
            const T wy0 = y0 >= 0 ? T(1) - ry : T(0), wy1 = y0 + 1 >= 0 && y0 < last_y ? ry : T(0);
            const int32_t cx0 = clamp(x0, 0, last_x), cx1 = clamp(x0 + 1, 0, last_x);
            const int32_t cy0 = start[i] + clamp(y0, 0, last_y) * columns[i];
            const int32_t cy1 = start[i] + clamp(y0 + 1, 0, last_y) * columns[i];
            rows[i] = cy0 + cx0;
            rows[n + i] = cy0 + cx1;
            rows[2 * n + i] = cy1 + cx0;
            rows[3 * n + i] = cy1 + cx1;
            weights[i] = wy0 * wx0;
            weights[n + i] = wy0 * wx1;
            weights[2 * n + i] = wy1 * wx0;
            weights[3 * n + i] = wy1 * wx1;
            fx[i] = rx;
            fy[i] = ry;
        }
    }
};

// value (B, S, H, D), xy (B, Q, H, L, P, 2), attention (B, Q, H, L, P) -> out (B, Q, H, D)
template <class T>
void deformable_forward(const T* value, const T* xy, const T* attention, T* out, const Level* level, int64_t levels,
                        int64_t batch, int64_t size, int64_t heads, int64_t dim, int64_t queries, int64_t points) {
#pragma omp parallel
    {
        Samples<T> s(level, levels, points);
        const int64_t n = s.n;
#pragma omp for collapse(2) schedule(static)
        for (int64_t b = 0; b < batch; ++b)
            for (int64_t q = 0; q < queries; ++q)
                for (int64_t h = 0; h < heads; ++h) {
                    const int64_t at = (b * queries + q) * heads + h;
                    s.place(xy + at * n * 2);
                    T* o = out + at * dim;
                    const T* v = value + (b * size * heads + h) * dim;
                    std::memset(o, 0, dim * sizeof(T));
                    for (int64_t i = 0; i < n; ++i)
                        for (int c = 0; c < 4; ++c) {
                            const T w = s.weights[c * n + i] * attention[at * n + i];
                            const T* row = v + s.rows[c * n + i] * heads * dim;
                            for (int64_t d = 0; d < dim; ++d) o[d] += w * row[d];
                        }
                }
    }
}

}  // namespace ovd
