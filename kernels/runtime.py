"""One call makes ``import jittor`` right: ``jt = runtime.jittor()``."""

from __future__ import annotations

import os
import ssl
import sys
from functools import cache
from pathlib import Path
from typing import Any

#: Where Jittor looks for oneDNN before it would download it.
_ONEDNN = "mkl/dnnl_lnx_2.2.0_cpu_gomp"


@cache
def jittor() -> Any:
    """The module ``jittor``, imported with everything around it put right."""
    home = Path(os.environ.get("JITTOR_HOME", Path.home()))
    link = home / ".cache" / "jittor" / _ONEDNN
    if not (link / "lib" / "libmkldnn.so").exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(sys.prefix)
    os.environ.update(nvcc_path="", log_silent="1", FIX_TORCH_ERROR="0", use_mpi="0")
    context, limit = ssl._create_default_https_context, sys.getrecursionlimit()
    import jittor as module

    ssl._create_default_https_context = context
    sys.setrecursionlimit(limit)
    module.flags.cc_flags = module.flags.cc_flags.replace("-Ofast", "-Ofast -fno-finite-math-only")
    return module
