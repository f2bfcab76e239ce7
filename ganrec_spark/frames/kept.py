"""Small frames whose rows are made at once and kept: their plans, joined over and over, would take minutes to make."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pyspark.sql import DataFrame

_SIDE_BY_SIDE = 4
_Key = TypeVar("_Key")
_First = TypeVar("_First")
_Second = TypeVar("_Second")


def kept(
    makers: Mapping[_Key, Callable[[], DataFrame]], keep: Callable[[DataFrame], DataFrame]
) -> dict[_Key, DataFrame]:
    """Return what each maker makes, kept by `keep`.

    Side by side: frames of few rows wait for the driver's plans, and hardly for the cores.
    """
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        made = pool.map(lambda make: keep(make()), makers.values())
        return dict(zip(makers, made, strict=True))


def side_by_side(first: Callable[[], _First], second: Callable[[], _Second]) -> tuple[_First, _Second]:
    """Return what both give, asked at once: each waits for Spark's plans more than for the cores."""
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(second)
        own = first()
        return own, other.result()
