// Multi-scale deformable attention on NVIDIA GPUs (Zhu et al. 2021, section 4.1).
//
// A block processes one head and a tile of queries that are neighbours in the image, so that pixels are reused from the
// L1 cache. First its threads compute offsets and weights of the four corners of each sample, in shared memory. Then a
// group of `lanes` threads walks over the samples of each query, each thread with 16 bytes of the channels. A corner
// outside the image has weight 0 and the offset of the nearest pixel.
//
// Values and outputs are float, double, half or bfloat16; locations, attention weights and all gradients but that of
// the output are `Real`: double for double, float for the others. Gradients of the value are added atomically, so their
// last bits vary from run to run.
#ifndef OVD_EMULATED  // the tests compile the same text for the CPU with their own replacements of these headers
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>
#define OVD_LAUNCH(kernel, grid, block, bytes, stream, ...) kernel<<<grid, block, bytes, stream>>>(__VA_ARGS__)
#endif

namespace ovd {
namespace {

constexpr int kThreads = 128;
constexpr int kWarp = 32;
constexpr int kMaxLevels = 8;
constexpr int kSharedBytes = 48 * 1024;  // available on every device without opting in

struct DeformableShape {
    int batch, pixels, heads, dim, queries, points, levels;
    int height[kMaxLevels], width[kMaxLevels];
};

template <class T>
struct RealOf {
    using type = float;
};
template <>
struct RealOf<double> {
    using type = double;
};
template <class T>
using Real = typename RealOf<T>::type;

template <class T>
__device__ inline Real<T> to_real(T x) {
    return static_cast<Real<T>>(x);
}
template <class T>
__device__ inline T from_real(Real<T> x) {
    return static_cast<T>(x);
}

// N neighbouring channels, loaded and stored together.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
    T at[N];
};

template <class T, int N>
__device__ inline void load(const T* from, Real<T> (&to)[N]) {
    const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(from);
#pragma unroll
    for (int n = 0; n < N; ++n) to[n] = to_real(pack.at[n]);
}

template <class T, int N>
__device__ inline void store(T* to, const Real<T> (&from)[N]) {
    Pack<T, N> pack;
#pragma unroll
    for (int n = 0; n < N; ++n) pack.at[n] = from_real<T>(from[n]);
    *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

template <class R, int N>
__device__ inline void add_atomically(R* to, const R (&x)[N]) {
#pragma unroll
    for (int n = 0; n < N; ++n) atomicAdd(to + n, x[n]);
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
template <int N>
__device__ inline typename std::enable_if<N % 4 == 0>::type add_atomically(float* to, const float (&x)[N]) {
#pragma unroll
    for (int n = 0; n < N; n += 4)
        atomicAdd(reinterpret_cast<float4*>(to + n), make_float4(x[n], x[n + 1], x[n + 2], x[n + 3]));
}
#endif

// Upper left, upper right, lower left, lower right: from the first channel of the head, times the attention weight.
template <class R>
struct alignas(16) Corners {
    int offset[4];
    R weight[4];
};

// Position of a sample on one axis of n pixels.
template <class R>
struct Axis {
    int low, high;           // nearest pixels inside
    bool low_inside, high_inside;
    R fraction;              // distance from low, in pixels

    __device__ Axis(R position, int n) {
        position = position > R(-2) ? position : R(-2);  // NaN too
        position = position < R(n) ? position : R(n);
        const R below = floor(position);
        const int pixel = static_cast<int>(below);
        fraction = position - below;
        low_inside = pixel >= 0 && pixel < n;
        high_inside = pixel >= -1 && pixel < n - 1;
        low = max(0, min(pixel, n - 1));
        high = max(0, min(pixel + 1, n - 1));
    }
    __device__ R low_weight() const { return low_inside ? R(1) - fraction : R(0); }
    __device__ R high_weight() const { return high_inside ? fraction : R(0); }
};

// Where the samples of a tile of queries of one head lie in the locations and attention weights.
struct Tile {
    int head, first, count;  // queries first … first + count - 1
    int64_t image;

    __device__ Tile(const DeformableShape& shape, int queries) {
        head = blockIdx.y % shape.heads;
        image = blockIdx.y / shape.heads;
        first = blockIdx.x * queries;
        count = min(queries, shape.queries - first);
    }
    __device__ int64_t row(const DeformableShape& shape, int query) const {
        return (image * shape.queries + first + query) * shape.heads + head;
    }
};

// Calls visit(i, at, level, x, y) for the samples of a tile: i counts them, at is their place among the weights, x and y
// are their positions in pixels of the level.
template <class R, class Visit>
__device__ inline void for_samples(const DeformableShape& shape, const Tile& tile, const R* xy, Visit visit) {
    const int samples = shape.levels * shape.points;
    for (int i = threadIdx.x; i < tile.count * samples; i += blockDim.x) {
        const int sample = i % samples, level = sample / shape.points;
        const int64_t at = tile.row(shape, i / samples) * samples + sample;
        visit(i, at, level, Axis<R>(xy[2 * at] * R(shape.width[level]) - R(0.5), shape.width[level]),
              Axis<R>(xy[2 * at + 1] * R(shape.height[level]) - R(0.5), shape.height[level]));
    }
}

template <class R>
__device__ inline void place(const DeformableShape& shape, const Tile& tile, const R* xy, const R* attention,
                             Corners<R>* corners) {
    const int stride = shape.heads * shape.dim;
    for_samples(shape, tile, xy, [&](int i, int64_t at, int level, const Axis<R>& x, const Axis<R>& y) {
        int start = 0;
        for (int l = 0; l < level; ++l) start += shape.height[l] * shape.width[l];
        const int upper = start + y.low * shape.width[level], lower = start + y.high * shape.width[level];
        const R a = attention[at];
        Corners<R> c;
        c.offset[0] = (upper + x.low) * stride;
        c.offset[1] = (upper + x.high) * stride;
        c.offset[2] = (lower + x.low) * stride;
        c.offset[3] = (lower + x.high) * stride;
        c.weight[0] = a * y.low_weight() * x.low_weight();
        c.weight[1] = a * y.low_weight() * x.high_weight();
        c.weight[2] = a * y.high_weight() * x.low_weight();
        c.weight[3] = a * y.high_weight() * x.high_weight();
        corners[i] = c;
    });
}

// Grid (tiles of queries, batch * heads), block (queries of a tile * lanes).
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* __restrict__ value, const Real<T>* __restrict__ xy, const Real<T>* __restrict__ attention,
                   T* __restrict__ out, const __grid_constant__ DeformableShape shape, int lanes) {
    using R = Real<T>;
    extern __shared__ __align__(16) unsigned char shared[];
    Corners<R>* corners = reinterpret_cast<Corners<R>*>(shared);
    const int samples = shape.levels * shape.points;
    const Tile tile(shape, blockDim.x / lanes);
    place(shape, tile, xy, attention, corners);
    __syncthreads();
    const int query = threadIdx.x / lanes, lane = threadIdx.x % lanes;
    if (query >= tile.count) return;
    const T* v = value + (tile.image * shape.pixels * shape.heads + tile.head) * shape.dim;
    T* o = out + tile.row(shape, query) * shape.dim;
    for (int d = lane * N; d < shape.dim; d += lanes * N) {
        R sum[N] = {};
#pragma unroll 2
        for (int i = 0; i < samples; ++i) {
            const Corners<R> c = corners[query * samples + i];
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                R pixel[N];
                load<T, N>(v + c.offset[k] + d, pixel);
#pragma unroll
                for (int n = 0; n < N; ++n) sum[n] += c.weight[k] * pixel[n];
            }
        }
        store<T, N>(o + d, sum);
    }
}

// As above; `dvalue` was zeroed before. All threads stay to the end, since the lanes of a query sum up by shuffles.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const T* __restrict__ value, const Real<T>* __restrict__ xy,
                    const Real<T>* __restrict__ attention, const T* __restrict__ grad, Real<T>* __restrict__ dvalue,
                    Real<T>* __restrict__ dxy, Real<T>* __restrict__ dattention,
                    const __grid_constant__ DeformableShape shape, int lanes) {
    using R = Real<T>;
    extern __shared__ __align__(16) unsigned char shared[];
    const int samples = shape.levels * shape.points, queries = blockDim.x / lanes;
    Corners<R>* corners = reinterpret_cast<Corners<R>*>(shared);
    R(*dots)[4] = reinterpret_cast<R(*)[4]>(corners + queries * samples);  // value . grad at the corners
    const Tile tile(shape, queries);
    place(shape, tile, xy, attention, corners);
    __syncthreads();
    const int query = threadIdx.x / lanes, lane = threadIdx.x % lanes;
    const bool mine = query < tile.count;
    const int64_t base = (tile.image * shape.pixels * shape.heads + tile.head) * shape.dim;
    for (int start = 0; start < shape.dim; start += lanes * N) {
        const int d = start + lane * N;
        const bool active = mine && d < shape.dim;
        R g[N] = {};
        if (active) load<T, N>(grad + tile.row(shape, query) * shape.dim + d, g);
        for (int i = query * samples; i < (query + 1) * samples; ++i) {
            R dot[4] = {};
            if (active) {
                const Corners<R> c = corners[i];
#pragma unroll
                for (int k = 0; k < 4; ++k) {
                    R pixel[N];
                    load<T, N>(value + base + c.offset[k] + d, pixel);
#pragma unroll
                    for (int n = 0; n < N; ++n) dot[k] += pixel[n] * g[n];
                    if (c.weight[k] != R(0)) {
                        R share[N];
#pragma unroll
                        for (int n = 0; n < N; ++n) share[n] = c.weight[k] * g[n];
                        add_atomically(dvalue + base + c.offset[k] + d, share);
                    }
                }
            }
#pragma unroll
            for (int step = kWarp / 2; step > 0; step /= 2)
                if (step < lanes)
#pragma unroll
                    for (int k = 0; k < 4; ++k) dot[k] += __shfl_xor_sync(0xffffffffu, dot[k], step);
            if (lane == 0)
#pragma unroll
                for (int k = 0; k < 4; ++k) dots[i][k] = start ? dots[i][k] + dot[k] : dot[k];
        }
    }
    __syncthreads();
    for_samples(shape, tile, xy, [&](int i, int64_t at, int level, const Axis<R>& x, const Axis<R>& y) {
        const R s0 = x.low_inside && y.low_inside ? dots[i][0] : R(0);
        const R s1 = x.high_inside && y.low_inside ? dots[i][1] : R(0);
        const R s2 = x.low_inside && y.high_inside ? dots[i][2] : R(0);
        const R s3 = x.high_inside && y.high_inside ? dots[i][3] : R(0);
        const R upper = s0 + x.fraction * (s1 - s0), lower = s2 + x.fraction * (s3 - s2), a = attention[at];
        dxy[2 * at] = a * R(shape.width[level]) * ((s1 - s0) + y.fraction * ((s3 - s2) - (s1 - s0)));
        dxy[2 * at + 1] = a * R(shape.height[level]) * (lower - upper);
        dattention[at] = upper + y.fraction * (lower - upper);
    });
}

struct Launch {
    dim3 grid, block;
    int lanes;
    size_t bytes;
    cudaError_t error;

    // N channels per thread; `bytes_per_sample` of shared memory.
    Launch(const DeformableShape& shape, int n, size_t bytes_per_sample) : lanes(1), error(cudaSuccess) {
        const int parts = (shape.dim + n - 1) / n;
        while (2 * lanes <= parts && lanes < kWarp) lanes *= 2;
        const size_t bytes_per_query = bytes_per_sample * shape.levels * shape.points;
        int queries = kThreads / lanes;
        while (queries * bytes_per_query > kSharedBytes && queries * lanes > kWarp) queries /= 2;
        bytes = queries * bytes_per_query;
        grid = dim3((shape.queries + queries - 1) / queries, shape.batch * shape.heads);
        block = dim3(queries * lanes);
        const int64_t numbers = int64_t(shape.pixels) * shape.heads * shape.dim;  // offsets are int
        if (bytes > kSharedBytes || numbers > INT32_MAX || int64_t(shape.batch) * shape.heads > 65535)
            error = cudaErrorInvalidValue;
    }
};

inline bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

inline bool empty(const DeformableShape& shape) {
    return shape.batch == 0 || shape.queries == 0 || shape.heads == 0 || shape.dim == 0;
}

template <class T, int N>
cudaError_t forward_in_parts(const T* value, const Real<T>* xy, const Real<T>* attention, T* out,
                             const DeformableShape& shape, cudaStream_t stream) {
    const Launch launch(shape, N, sizeof(Corners<Real<T>>));
    if (launch.error != cudaSuccess) return launch.error;
    OVD_LAUNCH((forward_kernel<T, N>), launch.grid, launch.block, launch.bytes, stream, value, xy, attention, out, shape,
               launch.lanes);
    return cudaGetLastError();
}

template <class T, int N>
cudaError_t backward_in_parts(const T* value, const Real<T>* xy, const Real<T>* attention, const T* grad,
                              Real<T>* dvalue, Real<T>* dxy, Real<T>* dattention, const DeformableShape& shape,
                              cudaStream_t stream) {
    const Launch launch(shape, N, sizeof(Corners<Real<T>>) + 4 * sizeof(Real<T>));
    if (launch.error != cudaSuccess) return launch.error;
    OVD_LAUNCH((backward_kernel<T, N>), launch.grid, launch.block, launch.bytes, stream, value, xy, attention, grad,
               dvalue, dxy, dattention, shape, launch.lanes);
    return cudaGetLastError();
}

// value (B, S, H, D), xy (B, Q, H, L, P, 2), attention (B, Q, H, L, P) -> out (B, Q, H, D), all on the device
template <class T>
cudaError_t deformable_forward(const T* value, const Real<T>* xy, const Real<T>* attention, T* out,
                               const DeformableShape& shape, cudaStream_t stream) {
    constexpr int kPart = 16 / sizeof(T);
    if (empty(shape)) return cudaSuccess;
    if (shape.dim % kPart == 0 && aligned(value) && aligned(out))
        return forward_in_parts<T, kPart>(value, xy, attention, out, shape, stream);
    return forward_in_parts<T, 1>(value, xy, attention, out, shape, stream);
}

// grad (B, Q, H, D) -> dvalue, dxy, dattention of the shapes of value, xy, attention
template <class T>
cudaError_t deformable_backward(const T* value, const Real<T>* xy, const Real<T>* attention, const T* grad,
                                Real<T>* dvalue, Real<T>* dxy, Real<T>* dattention, const DeformableShape& shape,
                                cudaStream_t stream) {
    constexpr int kPart = 16 / sizeof(T);
    const size_t numbers = size_t(shape.batch) * shape.pixels * shape.heads * shape.dim;
    const cudaError_t zeroed = cudaMemsetAsync(dvalue, 0, numbers * sizeof(Real<T>), stream);
    if (zeroed != cudaSuccess || empty(shape)) return zeroed;
    if (shape.dim % kPart == 0 && aligned(value) && aligned(grad) && aligned(dvalue))
        return backward_in_parts<T, kPart>(value, xy, attention, grad, dvalue, dxy, dattention, shape, stream);
    return backward_in_parts<T, 1>(value, xy, attention, grad, dvalue, dxy, dattention, shape, stream);
}

}  // namespace
}  // namespace ovd
