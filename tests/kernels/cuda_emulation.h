// Just enough of CUDA to run a kernel on the CPU: threads of a block are fibers that take turns at every barrier.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define OVD_EMULATED
#define __global__
#define __device__
#define __shared__
#define __grid_constant__
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define OVD_LAUNCH(kernel, grid, block, bytes, stream, ...) \
    emulation::launch(grid, block, bytes, [&] { kernel(__VA_ARGS__); })

using std::floor;
using std::max;
using std::min;
using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t error) { return error ? "invalid argument" : "no error"; }
inline cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t) {
    std::memset(at, value, bytes);
    return cudaSuccess;
}

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct Index {
    int x, y, z;
};
static Index threadIdx, blockIdx, blockDim;

// Upper half of a float, standing for both 16-bit types.
struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    explicit __nv_bfloat16(float x) {
        uint32_t all;
        std::memcpy(&all, &x, 4);
        bits = uint16_t((all + 0x7fff + (all >> 16 & 1)) >> 16);
    }
    operator float() const {
        const uint32_t all = uint32_t(bits) << 16;
        float x;
        std::memcpy(&x, &all, 4);
        return x;
    }
};
using __half = __nv_bfloat16;

template <class T>
void atomicAdd(T* to, T x) {
    *to += x;
}

namespace ovd {
namespace {
constexpr size_t kEmulatedShared = 48 * 1024;
alignas(16) unsigned char shared[kEmulatedShared + 1024];
}  // namespace
}  // namespace ovd

namespace emulation {

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    bool done;
    int barriers;
};
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static std::function<void()> body;
static double slots[1024];

[[noreturn]] inline void fail(const char* why) {
    std::fprintf(stderr, "emulation: %s\n", why);
    std::abort();
}

inline void barrier() {
    Fiber& me = fibers[threadIdx.x];
    ++me.barriers;
    swapcontext(&me.context, &scheduler);
}

inline void start() {
    body();
    fibers[threadIdx.x].done = true;
}

inline void run_block() {
    for (Fiber& fiber : fibers) {
        fiber.done = false;
        fiber.barriers = 0;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = &scheduler;
        makecontext(&fiber.context, start, 0);
    }
    for (bool running = true; running;) {
        running = false;
        for (size_t t = 0; t < fibers.size(); ++t) {
            if (fibers[t].done) continue;
            threadIdx = {int(t), 0, 0};
            swapcontext(&scheduler, &fibers[t].context);
            running = true;
        }
    }
    for (const Fiber& fiber : fibers)
        if (fiber.barriers != fibers[0].barriers) fail("a barrier was not met by all threads");
}

inline void launch(dim3 grid, dim3 block, size_t bytes, const std::function<void()>& kernel) {
    if (bytes > ovd::kEmulatedShared || block.x > 1024 || block.x % 32 || grid.x == 0 || grid.y == 0 || grid.y > 65535)
        fail("a launch that no device would accept");
    body = kernel;
    blockDim = {int(block.x), 1, 1};
    fibers.resize(block.x);
    for (Fiber& fiber : fibers) fiber.stack.resize(64 * 1024);
    for (unsigned y = 0; y < grid.y; ++y)
        for (unsigned x = 0; x < grid.x; ++x) {
            blockIdx = {int(x), int(y), 0};
            std::memset(ovd::shared, 0xff, sizeof ovd::shared);  // NaN, so that nothing unwritten goes unnoticed
            run_block();
            for (size_t i = bytes; i < sizeof ovd::shared; ++i)
                if (ovd::shared[i] != 0xff) fail("shared memory was written beyond its end");
        }
}

}  // namespace emulation

inline void __syncthreads() { emulation::barrier(); }

// Meant for loops that all threads of a block walk in step.
template <class T>
T __shfl_xor_sync(unsigned, T x, int step) {
    const int me = threadIdx.x;
    emulation::slots[me] = double(x);
    emulation::barrier();
    const T other = T(emulation::slots[me ^ step]);
    emulation::barrier();
    return other;
}
