"""From every user's metrics to the rows of benchmarks/quality.py: means, intervals, the seeds' spread, lifts."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from peers import PEERS
from sequential import NAMES

from ganrec_spark.evaluation.bootstrap import Lift, poisson_weights, relative_lift
from ganrec_spark.plan.members import LEARN_FROM_FILLS

_CHOSEN_BY = "ndcg@10"
_SAMPLES = 1000
_SEE_ORDER = [*NAMES, *(peer.name for peer in PEERS if peer.sees_order)]
# Systems with fill and what they are without.
_UNFILLED = {f"{name} with fill": name for name in (*LEARN_FROM_FILLS, "blend")} | {"published": "blend"}


def summary(values: pd.DataFrame, segments: dict[int, tuple[str, ...]]) -> pd.DataFrame:
    """Return a row per system, segment and metric: mean, interval, the seeds' spread, and lifts with intervals.

    `lift` is over the best peer of all, `blind_lift` over the best one that does not see order. Systems with fill also
    have their lift over themselves without: fill_lift, NaN elsewhere. `seed_low` and `seed_high` are the smallest and
    the largest of the seeds' means.
    """
    metrics = [name for name in values.columns if "@" in name]
    best = best_peers(values)
    test = values[values["split"] == "test"]
    per_user = test.groupby(["kind", "system", "user_idx"], sort=False)[metrics].mean()
    validation = values[values["split"] == "validation"].groupby("system")[_CHOSEN_BY].mean()
    users = np.sort(test["user_idx"].unique())
    weights = poisson_weights(users, _SAMPLES, seed=0)
    peers = {lift: per_user.xs(("peer", name)).reindex(users) for lift, name in best.items()}
    rows = []
    for segment, members in _members(users, segments).items():
        totals = weights[members].sum(axis=0)
        before = {
            (lift, metric): own[metric].to_numpy()[members] @ weights[members]
            for lift, own in peers.items()
            for metric in metrics
        }
        spread = seeds_spread(test[test["user_idx"].isin(users[members])], metrics)
        found: dict[tuple[str, str], NDArray[np.float64]] = {}  # the members without fill come before those with
        for kind, system in per_user.index.droplevel("user_idx").unique():
            own = per_user.xs((kind, system)).reindex(users)
            for metric in metrics:
                sums = found[system, metric] = own[metric].to_numpy()[members] @ weights[members]
                means = np.divide(sums, totals, out=np.full(len(sums), np.nan), where=totals > 0)
                plain = found.get((_UNFILLED.get(system, ""), metric))
                lifts = [relative_lift(before[lift, metric], sums, 0.95) for lift in best]
                lifts.append(Lift(np.nan, np.nan, np.nan) if plain is None else relative_lift(plain, sums, 0.95))
                bounds = [bound for one in lifts for bound in (one.value, one.low, one.high)]
                row = (kind, system, segment, metric, means[0], *np.nanquantile(means[1:], [0.025, 0.975]))
                row += (*spread[kind, system, metric], *bounds, *best.values())
                rows.append((*row, validation[system], int(members.sum())))
    lifts = [f"{name}{part}" for name in (*best, "fill_lift") for part in ("", "_low", "_high")]
    columns = ["kind", "system", "segment", "metric", "value", "low", "high", "seed_low", "seed_high", *lifts]
    names = ["best_peer" if lift == "lift" else "best_blind_peer" for lift in best]
    return pd.DataFrame(rows, columns=[*columns, *names, f"validation_{_CHOSEN_BY}", "n_users"])


def best_peers(values: pd.DataFrame) -> dict[str, str]:
    """Return the name of a lift -> the peer it is over: the best on validation, of all and of those blind to order."""
    rows = values[(values["split"] == "validation") & (values["kind"] == "peer")]
    means = rows.groupby("system")[_CHOSEN_BY].mean()
    return {"lift": str(means.idxmax()), "blind_lift": str(means.drop(_SEE_ORDER, errors="ignore").idxmax())}


def seeds_spread(test: pd.DataFrame, metrics: list[str]) -> dict[tuple[str, str, str], tuple[float, float]]:
    """Return (kind, system, metric) -> the smallest and the largest of the seeds' means over users."""
    means = test.groupby(["kind", "system", "seed"], sort=False)[metrics].mean().groupby(level=[0, 1], sort=False)
    low, high = means.min(), means.max()
    return {
        (*names, metric): (low.loc[names, metric], high.loc[names, metric]) for names in low.index for metric in metrics
    }


def _members(users: NDArray[np.int64], segments: dict[int, tuple[str, ...]]) -> dict[str, NDArray[np.bool_]]:
    """Return segment -> mask of `users`; users without a training rating are the cold ones."""
    of_user = [segments.get(int(user), ("all", "cold")) for user in users]
    names = sorted({name for row in of_user for name in row}, key=_segment_order)
    return {name: np.array([name in row for row in of_user]) for name in names}


def _segment_order(name: str) -> tuple[int, int]:
    fixed = ("all", "sparse", "dense", "cold")
    return (0, fixed.index(name)) if name in fixed else (1, int(name.partition(":")[2].split("-")[0].rstrip("+")))
