// The same operators as C functions, for ctypes. They are built without any framework.
#include "deformable_attention.h"

namespace {

// sizes: batch, pixels, heads, dim, queries, points, levels, then height and width of every level.
bool read(const int* sizes, ovd::DeformableShape& shape) {
    shape = {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], {}, {}};
    if (shape.levels < 1 || shape.levels > ovd::kMaxLevels) return false;
    for (int l = 0; l < shape.levels; ++l) {
        shape.height[l] = sizes[7 + 2 * l];
        shape.width[l] = sizes[8 + 2 * l];
    }
    return true;
}

template <class T>
cudaError_t forward(const void* value, const void* xy, const void* attention, void* out,
                    const ovd::DeformableShape& shape, void* stream) {
    using R = ovd::Real<T>;
    return ovd::deformable_forward(static_cast<const T*>(value), static_cast<const R*>(xy),
                                   static_cast<const R*>(attention), static_cast<T*>(out), shape,
                                   static_cast<cudaStream_t>(stream));
}

template <class T>
cudaError_t backward(const void* value, const void* xy, const void* attention, const void* grad, void* dvalue,
                     void* dxy, void* dattention, const ovd::DeformableShape& shape, void* stream) {
    using R = ovd::Real<T>;
    return ovd::deformable_backward(static_cast<const T*>(value), static_cast<const R*>(xy),
                                    static_cast<const R*>(attention), static_cast<const T*>(grad),
                                    static_cast<R*>(dvalue), static_cast<R*>(dxy), static_cast<R*>(dattention), shape,
                                    static_cast<cudaStream_t>(stream));
}

}  // namespace

// type: 0 float, 1 double, 2 half, 3 bfloat16. Returns a cudaError_t.
extern "C" int ovd_deformable_forward(int type, const void* value, const void* xy, const void* attention, void* out,
                                      const int* sizes, void* stream) {
    ovd::DeformableShape shape;
    if (!read(sizes, shape)) return cudaErrorInvalidValue;
    switch (type) {
        case 0: return forward<float>(value, xy, attention, out, shape, stream);
        case 1: return forward<double>(value, xy, attention, out, shape, stream);
        case 2: return forward<__half>(value, xy, attention, out, shape, stream);
        case 3: return forward<__nv_bfloat16>(value, xy, attention, out, shape, stream);
        default: return cudaErrorInvalidValue;
    }
}

extern "C" int ovd_deformable_backward(int type, const void* value, const void* xy, const void* attention,
                                       const void* grad, void* dvalue, void* dxy, void* dattention, const int* sizes,
                                       void* stream) {
    ovd::DeformableShape shape;
    if (!read(sizes, shape)) return cudaErrorInvalidValue;
    switch (type) {
        case 0: return backward<float>(value, xy, attention, grad, dvalue, dxy, dattention, shape, stream);
        case 1: return backward<double>(value, xy, attention, grad, dvalue, dxy, dattention, shape, stream);
        case 2: return backward<__half>(value, xy, attention, grad, dvalue, dxy, dattention, shape, stream);
        case 3: return backward<__nv_bfloat16>(value, xy, attention, grad, dvalue, dxy, dattention, shape, stream);
        default: return cudaErrorInvalidValue;
    }
}

extern "C" const char* ovd_error(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
