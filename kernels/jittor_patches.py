"""Patches of Jittor 1.3.11.0 for CUDA 13 and cuDNN 9: files, their checksums, replacements.

``kernels.jittor_cuda`` applies them to a private copy. The two headers in ``kernels/jittor_include`` belong to them: a
replacement for ``npp.h``, and names of cub that CUDA 13 removed.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Version of Jittor that the patches fit.
VERSION = "1.3.11.0"


@dataclass(frozen=True)
class Patch:
    """Replacements in one file.

    Attributes:
        file: path below the folder that holds the packages.
        sha256: hash of the released file.
        replacements: old and new text; each old text occurs exactly once.
    """

    file: str
    sha256: str
    replacements: tuple[tuple[str, str], ...]


_CUDNN = "jittor/extern/cuda/cudnn"

#: cuDNN 8 and 9 compute float32 convolutions in TF32 by default. Jittor can only switch TF32 on, not off.
_FLOAT32 = (
    (
        "    if(use_tensorcore){\n",
        "    checkCudaErrors(cudnnSetConvolutionMathType(cudnnConvDesc, CUDNN_FMA_MATH));\n    if(use_tensorcore){\n",
    ),
)

PATCHES = (
    # Fields of cudaDeviceProp that CUDA 13 removed, used in helpers that Jittor does not call.
    Patch(
        "jittor/extern/cuda/inc/helper_cuda.h",
        "5faa2b18470a970658cfc0b70504f98aa6fb85695b2a116408895ad11edc57da",
        (
            ("if (deviceProp.computeMode == cudaComputeModeProhibited) {", "if (false) {"),
            ("if (deviceProp.computeMode != cudaComputeModeProhibited) {", "if (true) {"),
            ("sm_per_multiproc * deviceProp.clockRate;", "sm_per_multiproc;"),
            ("(deviceProp.computeMode != cudaComputeModeProhibited)) {", "true) {"),
        ),
    ),
    # CUDA 13's headers need C++17, which a rule meant for Windows would undo. Also compiles for devices after Hopper.
    Patch(
        "jittor/compiler.py",
        "3398b120fb43014db85d0beaccfc9775088956e46cec0b16cf62cd8581dd6898",
        (
            (
                '\ncc_flags += " -Wall -Wno-unknown-pragmas -std=c++14 -fPIC "\n',
                '\ncc_flags += " -Wall -Wno-unknown-pragmas -std=c++17 -fPIC "\n',
            ),
            (
                "        if nvcc_version >= [11,4]:\n"
                '            nvcc_flags = nvcc_flags.replace("-std=c++17", "-std=c++14 -Xcompiler -std:c++14")\n'
                "        else:\n"
                '            nvcc_flags = nvcc_flags.replace("-std=c++17", "")\n',
                "",
            ),
            ("    max_arch = 90\n", "    max_arch = 121\n"),
        ),
    ),
    # Without a driver the count of devices stays at -1, and an import aborts.
    Patch(
        "jittor/src/misc/cuda_flags.cc",
        "1bf8451968000bf0623e6127ead971092a557985e841c1bebc1661eabb03c3e4",
        (
            (
                "    if (count==-1)\n        cudaGetDeviceCount(&count);\n    return count;\n",
                "    if (count==-1 && cudaGetDeviceCount(&count) != cudaSuccess)\n"
                "        count = 0;\n"
                "    return count;\n",
            ),
        ),
    ),
    # Names of the libraries of cuDNN 9.
    Patch(
        "jittor/compile_extern.py",
        "d1d02ba4314b3390f70a91d3347267920cb77999b1241d01849c85fbcaa7d56c",
        (
            (
                '["libcudnn_ops_infer.so", "libcudnn_ops_train.so", "libcudnn_cnn_infer.so", "libcudnn_cnn_train.so"]',
                '["libcudnn_graph.so", "libcudnn_ops.so", "libcudnn_cnn.so"]',
            ),
        ),
    ),
    Patch(
        f"{_CUDNN}/ops/cudnn_conv_op.cc",
        "3696b717163b5e33ca34b8ecd30eef44304ed7282acca6b3a6ed8b4e36b620c1",
        _FLOAT32,
    ),
    Patch(
        f"{_CUDNN}/ops/cudnn_conv_backward_x_op.cc",
        "68af1f0e4ae17af352fe596ee1a292425476e6e55c30ba8a28b87bf0109e8687",
        _FLOAT32,
    ),
    Patch(
        f"{_CUDNN}/ops/cudnn_conv_backward_w_op.cc",
        "8dad2492b19e87215e8e2c08117d6c28d8233512a7a509e90434341dec3c217a",
        _FLOAT32,
    ),
)

#: Recurrent networks: their interface is gone from cuDNN 9, and nothing here uses them.
REMOVED = tuple(
    f"{_CUDNN}/{name}"
    for name in (
        "inc/cudnn_rnn_descriptor.h",
        "ops/cudnn_rnn_backward_x_op.cc",
        "ops/cudnn_rnn_backward_x_op.h",
        "ops/cudnn_rnn_op.cc",
        "ops/cudnn_rnn_op.h",
        "src/cudnn_rnn_descriptor.cc",
    )
)
