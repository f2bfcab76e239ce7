"""How far apart groups are served, worked by hand."""

from statistics import NormalDist
from typing import Any

import pytest

from ganrec_spark.evaluation.groups import group_gaps


def row(segment: str, value: float, half: float | None = 0.0196) -> dict[str, Any]:
    bounds = {"ci_low": None, "ci_high": None} if half is None else {"ci_low": value - half, "ci_high": value + half}
    return {"segment": segment, "value": value, **bounds}


def test_the_gap_of_two_groups_is_the_difference_of_two_means() -> None:
    rows = [row("all", 0.3), row("bucket:1-5", 0.1), row("gender:F", 0.25), row("gender:M", 0.35, 0.0392)]
    (gap,) = group_gaps(rows)
    assert (gap.column, gap.best, gap.worst) == ("gender", "gender:M", "gender:F")
    # Standard errors of .01 and .02.
    assert (gap.value, gap.low, gap.high) == pytest.approx(
        (0.1, 0.1 - 1.96 * 0.0005**0.5, 0.1 + 1.96 * 0.0005**0.5), abs=1e-5
    )
    low, high = f"{gap.low:.4f}", f"{gap.high:.4f}"
    assert gap.in_words() == f"0.1000 [{low}, {high}] between gender:M and gender:F"


def test_the_interval_of_many_groups_is_wider_and_single_ones_have_no_gap() -> None:
    rows = [row(f"age:{age}", 0.2 + age / 1000) for age in (10, 20, 30)] + [
        row("plan:x:y", 0.3),
        row("city:a", 0.1, None),
    ]
    (gap,) = group_gaps(rows)
    assert (gap.best, gap.worst) == ("age:30", "age:10")
    half = NormalDist().inv_cdf(1 - 0.05 / 3 / 2) * (2 * 0.01**2) ** 0.5  # three pairs
    assert gap.high - gap.value == pytest.approx(half, rel=1e-3)
    assert group_gaps([]) == []
