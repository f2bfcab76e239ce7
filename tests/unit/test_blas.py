import os
import subprocess
import sys

import pytest

from ganrec_spark.blas import VARIABLE, kernels_of

SHOW = "import ganrec_spark, os; print(os.environ.get('OPENBLAS_CORETYPE'))"


@pytest.mark.parametrize(
    ("flags", "kernels"),
    [
        ("fpu sse2 avx2 fma avx512f avx512bw avx512cd avx512dq avx512vl amx_tile", "SkylakeX"),
        ("fpu sse2 avx avx2 fma avx512f", "Haswell"),  # Knights Landing has some of it only
        ("fpu sse2 avx", None),
    ],
)
def test_kernels_follow_from_what_the_processor_says(flags: str, kernels: str | None) -> None:
    assert kernels_of(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: none\n") == kernels


def test_without_facts_openblas_chooses() -> None:
    assert kernels_of("") is None
    assert kernels_of("Features : asimd sve") is None


@pytest.mark.parametrize(("before", "code"), [("Nehalem", SHOW), (None, f"import numpy, {SHOW[7:]}")])
def test_who_has_chosen_keeps_it_and_a_loaded_numpy_is_too_late(before: str | None, code: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    environment |= {VARIABLE: before} if before else {}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(before)
