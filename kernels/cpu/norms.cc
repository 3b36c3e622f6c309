// Layer and group normalisation: mean first, then the squared deviations from it. Sums over many pixels or rows are
// made of blocks whose size does not depend on the number of threads, and added in order.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace ovd {

template <class T>
inline void row_moments(const T* x, int64_t width, T eps, T& mean, T& rstd) {
    T sum = 0, squares = 0;
    for (int64_t i = 0; i < width; ++i) sum += x[i];
    mean = sum / width;
    const T centre = mean;
    for (int64_t i = 0; i < width; ++i) squares += (x[i] - centre) * (x[i] - centre);
    rstd = T(1) / std::sqrt(squares / width + eps);
}

// x, y (rows, width); w, b (width)
template <class T>
void layer_norm_forward(const T* __restrict x, const T* __restrict w, const T* __restrict b, T* __restrict y,
                        int64_t rows, int64_t width, T eps) {
#pragma omp parallel for
    for (int64_t r = 0; r < rows; ++r) {
        const T* in = x + r * width;
        T* out = y + r * width;
        T mean, rstd;
        row_moments(in, width, eps, mean, rstd);
        for (int64_t i = 0; i < width; ++i) out[i] = (in[i] - mean) * rstd * w[i] + b[i];
    }
}

// With n = (x - mean) rstd and g = w dy: dx = rstd (g - mean(g) - n mean(g n)), dw = sum(dy n), db = sum(dy)
template <class T>
void layer_norm_backward(const T* __restrict x, const T* __restrict w, const T* __restrict dy, T* __restrict dx,
                         T* __restrict dw, T* __restrict db, int64_t rows, int64_t width, T eps) {
    const int64_t block_rows = std::max<int64_t>(32, (rows + 63) / 64), blocks = (rows + block_rows - 1) / block_rows;
    std::vector<T> sums(blocks * 2 * width, T(0));
#pragma omp parallel for
    for (int64_t block = 0; block < blocks; ++block) {
        T* __restrict sum_w = sums.data() + block * 2 * width;
        T* __restrict sum_b = sum_w + width;
        const int64_t last = std::min(rows, (block + 1) * block_rows);
        for (int64_t r = block * block_rows; r < last; ++r) {
            const T* in = x + r * width;
            const T* grad = dy + r * width;
            T* out = dx + r * width;
            T mean, rstd, mean_g = 0, mean_gn = 0;
            row_moments(in, width, eps, mean, rstd);
            for (int64_t i = 0; i < width; ++i) {
                const T n = (in[i] - mean) * rstd;
                sum_w[i] += grad[i] * n;
                sum_b[i] += grad[i];
                mean_g += grad[i] * w[i];
                mean_gn += grad[i] * w[i] * n;
            }
            mean_g /= width;
            mean_gn /= width;
            for (int64_t i = 0; i < width; ++i)
                out[i] = rstd * (grad[i] * w[i] - mean_g - (in[i] - mean) * rstd * mean_gn);
        }
    }
    std::fill(dw, dw + width, T(0));
    std::fill(db, db + width, T(0));
    for (int64_t block = 0; block < blocks; ++block) {
        const T* sum = sums.data() + block * 2 * width;
        for (int64_t i = 0; i < width; ++i) dw[i] += sum[i];
        for (int64_t i = 0; i < width; ++i) db[i] += sum[width + i];
    }
}

constexpr int64_t kPixels = 4096;  // of one partial sum; the partial sums are added in double

// Sum of f(i) for i in [0, count)
template <class T, class F>
inline double blocked_sum(int64_t count, F f) {
    double total = 0;
    for (int64_t first = 0; first < count; first += kPixels) {
        const int64_t last = std::min(count, first + kPixels);
        T sum = 0;
        for (int64_t i = first; i < last; ++i) sum += f(i);
        total += sum;
    }
    return total;
}

template <class T>
inline void group_moments(const T* x, int64_t size, T eps, T& mean, T& rstd) {
    const T centre = blocked_sum<T>(size, [=](int64_t i) { return x[i]; }) / size;
    const double squares = blocked_sum<T>(size, [=](int64_t i) { return (x[i] - centre) * (x[i] - centre); });
    mean = centre;
    rstd = 1 / std::sqrt(squares / size + eps);
}

// x, y (batch, groups, channels, pixels) with the channels of one group; w, b (groups, channels)
template <class T>
void group_norm_forward(const T* __restrict x, const T* __restrict w, const T* __restrict b, T* __restrict y,
                        int64_t batch, int64_t groups, int64_t channels, int64_t pixels, T eps) {
#pragma omp parallel for
    for (int64_t item = 0; item < batch * groups; ++item) {
        const int64_t first = item % groups * channels;
        T mean, rstd;
        group_moments(x + item * channels * pixels, channels * pixels, eps, mean, rstd);
        for (int64_t c = 0; c < channels; ++c) {
            const int64_t start = (item * channels + c) * pixels;
            const T scale = rstd * w[first + c], shift = b[first + c];
            for (int64_t i = start; i < start + pixels; ++i) y[i] = (x[i] - mean) * scale + shift;
        }
    }
}

// As for layers, with the sums over a group for the means.
template <class T>
void group_norm_backward(const T* __restrict x, const T* __restrict w, const T* __restrict dy, T* __restrict dx,
                         T* __restrict dw, T* __restrict db, int64_t batch, int64_t groups, int64_t channels,
                         int64_t pixels, T eps) {
    const int64_t all = groups * channels;
    std::vector<double> sums(batch * all * 2);  // per image and channel: sum(dy n), sum(dy)
#pragma omp parallel for
    for (int64_t item = 0; item < batch * groups; ++item) {
        const int64_t first = item % groups * channels, size = channels * pixels;
        T mean, rstd;
        group_moments(x + item * size, size, eps, mean, rstd);
        double mean_g = 0, mean_gn = 0;
        for (int64_t c = 0; c < channels; ++c) {
            const T* in = x + (item * channels + c) * pixels;
            const T* grad = dy + (item * channels + c) * pixels;
            double* sum = sums.data() + (item * channels + c) * 2;
            sum[0] = blocked_sum<T>(pixels, [=](int64_t i) { return grad[i] * (in[i] - mean); }) * rstd;
            sum[1] = blocked_sum<T>(pixels, [=](int64_t i) { return grad[i]; });
            mean_gn += sum[0] * w[first + c] / size;
            mean_g += sum[1] * w[first + c] / size;
        }
        const T factor = mean_gn * rstd, offset = mean_g;
        for (int64_t c = 0; c < channels; ++c) {
            const int64_t start = (item * channels + c) * pixels;
            const T weight = w[first + c];
            for (int64_t i = start; i < start + pixels; ++i)
                dx[i] = rstd * (dy[i] * weight - offset - (x[i] - mean) * factor);
        }
    }
    for (int64_t c = 0; c < all; ++c) {
        double sum_w = 0, sum_b = 0;
        for (int64_t n = 0; n < batch; ++n) {
            sum_w += sums[(n * all + c) * 2];
            sum_b += sums[(n * all + c) * 2 + 1];
        }
        dw[c] = sum_w;
        db[c] = sum_b;
    }
}

}  // namespace ovd
