// A step of AdamW on one parameter, and the squared norm of its gradient.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace ovd {

constexpr int64_t kTask = 1 << 15;  // numbers that one thread takes at a time
constexpr int64_t kPartial = 4096;  // numbers that are added in float before they are added to the sum in double

inline int64_t tasks(int64_t count) {
    return (count + kTask - 1) / kTask;
}

// numbers as in kernels/adamw.py, scale one number; average and new_average may be null
template <class T>
void adamw(const T* __restrict value, const T* __restrict gradient, const T* __restrict first,
           const T* __restrict second, const T* scale, const T* numbers, const T* __restrict average,
           T* __restrict new_value, T* __restrict new_first, T* __restrict new_second, T* __restrict new_average,
           int64_t count) {
    const T factor = scale[0], beta1 = numbers[0], rest1 = numbers[1], beta2 = numbers[2], rest2 = numbers[3];
    const T kept = numbers[4], move = numbers[5], root = numbers[6], eps = numbers[7], follow = numbers[8];
#pragma omp parallel for if (tasks(count) > 1)
    for (int64_t task = 0; task < tasks(count); ++task) {
        const int64_t begin = task * kTask, end = std::min(count, begin + kTask);
        for (int64_t i = begin; i < end; ++i) {
            const T clipped = gradient[i] * factor;
            const T m = first[i] * beta1 + clipped * rest1;
            const T v = second[i] * beta2 + clipped * clipped * rest2;
            new_first[i] = m;
            new_second[i] = v;
            new_value[i] = value[i] * kept - move * m / (std::sqrt(v) * root + eps);
        }
        if (average)
            for (int64_t i = begin; i < end; ++i) new_average[i] = average[i] + (new_value[i] - average[i]) * follow;
    }
}

// The same for any number of threads.
template <class T>
void squared_length(const T* x, T* out, int64_t count) {
    std::vector<double> sums(tasks(count));
#pragma omp parallel for if (tasks(count) > 1)
    for (int64_t task = 0; task < tasks(count); ++task) {
        const int64_t end = std::min(count, (task + 1) * kTask);
        double sum = 0;
        for (int64_t begin = task * kTask; begin < end; begin += kPartial) {
            T partial = 0;
            for (int64_t i = begin; i < std::min(end, begin + kPartial); ++i) partial += x[i] * x[i];
            sum += partial;
        }
        sums[task] = sum;
    }
    double total = 0;
    for (double sum : sums) total += sum;
    out[0] = total;
}

}  // namespace ovd
