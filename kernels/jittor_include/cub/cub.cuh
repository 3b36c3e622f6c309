// cub of CUDA 13 with the three names that Jittor uses and that release removed.
#pragma once

#include_next <cub/cub.cuh>

#include <cuda/functional>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

namespace cub {

using Max = ::cuda::maximum<>;

template <typename Value>
using CountingInputIterator = ::thrust::counting_iterator<Value>;

template <typename Value, typename Function, typename Iterator>
using TransformInputIterator = ::thrust::transform_iterator<Function, Iterator, Value>;

}  // namespace cub
