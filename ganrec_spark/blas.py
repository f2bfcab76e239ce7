"""Which kernels NumPy's matrix products run on (docs/adr/0022).

NumPy 1.26 brings an OpenBLAS of 2023. Of a later processor it knows nothing and takes its oldest kernels, which are a
sixth as fast (Emerald Rapids: 15 instead of 100 GFLOP/s). OpenBLAS reads a variable when NumPy is loaded, so it is set
before, to what the processor says that it can do. Every process of a run takes the driver's choice.
"""

import os
import sys
from pathlib import Path

VARIABLE = "OPENBLAS_CORETYPE"
_CPU_FACTS = Path("/proc/cpuinfo")
# The fastest first: OpenBLAS's name and the instructions that its kernels use.
_KERNELS = (
    ("SkylakeX", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    ("Haswell", {"avx2", "fma"}),
)


def choose_kernels() -> None:
    """Set OPENBLAS_CORETYPE for this process and its children, unless it is set or NumPy is loaded already."""
    if "numpy" not in sys.modules and VARIABLE not in os.environ and (kernels := kernels_of(_facts())):
        os.environ[VARIABLE] = kernels


def kernels_of(facts: str) -> str | None:
    """Return the kernels for a processor of which /proc/cpuinfo says `facts`; None where OpenBLAS may choose."""
    flags = next((line.partition(":")[2].split() for line in facts.splitlines() if line.startswith("flags")), [])
    return next((name for name, needed in _KERNELS if needed <= set(flags)), None)


def _facts() -> str:
    try:
        return _CPU_FACTS.read_text()
    except OSError:
        return ""
