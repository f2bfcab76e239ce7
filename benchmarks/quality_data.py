"""Data sets as benchmarks hand them to the pipeline: as they are, cut, split by time, or with ties undone."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from global_time import by_global_time
from ties import in_time, with_ascending_ids_tied


@dataclass(frozen=True)
class DataSet:
    """A folder of ratings, as it is handed to the pipeline, and the cut-offs its figures are published at."""

    name: str
    settings: tuple[str, ...]
    ks: tuple[int, ...]


def prepared(folder: Path, cut: float, work: Path, global_time: float = 0.0, tie_ascending: bool = False) -> DataSet:
    """Return the data set in `folder`; with `cut`, a copy in `work` in which that share of users has few ratings.

    With `global_time`, a copy that is split at that quantile of all times; with `tie_ascending` one in which ascending
    item ids in a row are ratings of one time.
    """
    if global_time:
        return split_by_time(folder, global_time, work)
    given = (folder / "train.parquet").exists()
    source, name = folder / ("train.parquet" if given else "ratings.parquet"), folder.name
    if cut or tie_ascending:
        name = f"{name}-cut-{cut:g}" if cut else f"{name}-tied"
        ratings = pd.read_parquet(source)
        ratings = cut_users(ratings, cut, 0 if given else 2) if cut else with_ascending_ids_tied(ratings)
        source = work / f"{name}.parquet"
        source.parent.mkdir(parents=True, exist_ok=True)
        ratings.to_parquet(source)
    settings = [f"ingest.source={source.resolve()}"]
    if given:
        settings += ["split.protocol=given", f"ingest.test_source={(folder / 'test.parquet').resolve()}"]
    return DataSet(name, tuple(settings), (5, 20) if given else (10,))


def split_by_time(folder: Path, share: float, work: Path) -> DataSet:
    """Return the data set in `folder` split at the quantile `share` of all times, as a copy in `work`."""
    name = f"{folder.name}-time-{share:g}"
    if not (folder / "ratings.parquet").exists():
        sys.exit(f"{folder}: expected ratings.parquet, found none; --global-time makes a split of its own")
    try:
        ratings, settings = by_global_time(pd.read_parquet(folder / "ratings.parquet"), share)
    except ValueError as error:
        sys.exit(f"{folder.name}, --global-time {share:g}: {error}")
    source = work / f"{name}.parquet"
    source.parent.mkdir(parents=True, exist_ok=True)
    ratings.to_parquet(source)
    return DataSet(name, (f"ingest.source={source.resolve()}", *settings), (10,))


def cut_users(ratings: pd.DataFrame, share: float, held_out: int) -> pd.DataFrame:
    """Return the ratings with a random `share` of the users cut to their last 5-10, `held_out` more not counted."""
    rng = np.random.default_rng(0)
    users = np.sort(ratings["user_id"].unique())
    kept = pd.Series(np.where(rng.random(len(users)) < share, rng.integers(5, 11, len(users)) + held_out, 10**9), users)
    newest = in_time(ratings)[::-1].groupby("user_id").cumcount()
    return ratings[newest.reindex(ratings.index) < ratings["user_id"].map(kept)]
