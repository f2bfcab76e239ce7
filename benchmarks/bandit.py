"""From the log of one policy the click rate of another one, beside the rate that the other one had: policies of a shop.

    python benchmarks/bandit.py FOLDER

FOLDER holds impressions.parquet in the form of the Open Bandit Dataset (Saito, Aihara, Matsutani & Narita 2021): one
row an item shown, with policy, campaign, timestamp, item_id, position, click, propensity_score and columns
user_feature_*. The data are not ours and stay where they are.

Of the policy that is estimated nothing is used but what it showed and with which propensities, never a click:

- where its propensity is the same whenever it shows an item at a position, that is its probability there;
- else it changes with what the policy learns, and its mean over the time of the log is estimated by how often it showed
  the item there. Where click rates of items change in step with it, this mean is not all there is to know.

Nobody's id is in the data: rows of the same features within an hour are taken for one visit, and visits are what
intervals count.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ganrec_spark.learning.estimates import (
    Logged,
    doubly_robust,
    fold_of,
    reward_model,
    shown,
    snips,
    user_sums,
)
from ganrec_spark.learning.moments import Estimate, student

FOLDS, PRIOR = 2, 5.0
_EQUAL = 1e-3  # relative; propensities are stored as 32-bit numbers
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """One policy's click rate by one estimator from the log of another one, and the rate that it had itself."""

    campaign: str
    log: str
    policy: str
    estimator: str
    probabilities: str
    clicks: int
    exposures: int
    effective: float
    mean_weight: float
    never_shown: float
    value: float
    low: float
    high: float
    own: float
    own_low: float
    own_high: float
    says: str


@dataclass(frozen=True)
class Campaign:
    """Rows of one campaign, with items and positions counted from 0."""

    rows: pd.DataFrame
    n_items: int
    n_positions: int

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Campaign":
        features = [name for name in rows if str(name).startswith("user_feature_")]
        visit = rows[features].astype(str).assign(hour=rows["timestamp"].dt.floor("h"))
        coded = pd.DataFrame(
            {
                "policy": rows["policy"],
                "item": rows["item_id"].rank(method="dense").astype(int) - 1,
                "position": rows["position"].rank(method="dense").astype(int) - 1,
                "click": rows["click"].astype(float),
                "propensity": rows["propensity_score"].astype(float),
                "visit": visit.groupby([*visit]).ngroup(),
            }
        )
        return cls(coded, int(coded["item"].max()) + 1, int(coded["position"].max()) + 1)

    def log(self, policy: str) -> pd.DataFrame:
        return self.rows[self.rows["policy"] == policy]


def probabilities(shown_rows: pd.DataFrame, n_positions: int, n_items: int) -> tuple[Floats, str]:
    """Return the probability [R positions, I items] of each item at each position, and how it is known.

    In: what the policy showed, with its propensities; clicks are not looked at.
    """
    pairs = shown_rows.groupby(["position", "item"])["propensity"].agg(["min", "max", "mean", "size"])
    table, counts = np.zeros((n_positions, n_items)), np.zeros((n_positions, n_items))
    at = tuple(pairs.index.get_level_values(level).to_numpy() for level in ("position", "item"))
    counts[at] = pairs["size"]
    if ((pairs["max"] - pairs["min"]) <= _EQUAL * pairs["max"]).all():
        table[at] = pairs["mean"]
        # What it never happened to show shares what is left: of a uniform policy exactly what is missing.
        left, unseen = np.maximum(0.0, 1 - table.sum(axis=1)), counts == 0
        table += np.where(unseen, (left / np.maximum(1, unseen.sum(axis=1)))[:, None], 0.0)
        return table / table.sum(axis=1, keepdims=True), "known"
    return counts / counts.sum(axis=1, keepdims=True), "estimated"


def logged(rows: pd.DataFrame, target: Floats) -> tuple[Logged, Floats]:
    """Return the log with the target's probabilities, and the reward model [F, R, I], fitted on other visits."""
    n_positions, n_items = target.shape
    item, position, reward = (rows[name].to_numpy() for name in ("item", "position", "click"))
    visit = rows["visit"].to_numpy()
    fold = fold_of(visit, FOLDS)
    model = reward_model(reward, item, position, fold, n_items, n_positions, PRIOR)
    expected = (model * target).sum(axis=2)[fold, position]
    own = model[fold, position, item]
    return Logged(reward, rows["propensity"].to_numpy(), target[position, item], visit, own, expected), model


def unknown_share(log: pd.DataFrame, target: Floats) -> float:
    """Return which share of what the target shows the log never showed, if it is not the log of a uniform policy."""
    seen = np.zeros(target.shape, dtype=np.bool_)
    seen[log["position"].to_numpy(), log["item"].to_numpy()] = True
    position = np.bincount(log["position"], minlength=len(target)) / len(log)
    uniform = np.allclose(log["propensity"], 1 / target.shape[1], rtol=_EQUAL)
    return 0.0 if uniform else float(position @ np.where(seen, 0.0, target).sum(axis=1))


def widened(value: Estimate, showing: pd.DataFrame, model: Floats) -> Estimate:
    """Return the estimate with what is not known of probabilities that were counted from `showing`.

    They are shares of so many exposures: the policy's value moves by the spread of what its items earn, over their
    number.
    """
    earned = model.mean(axis=0)[showing["position"].to_numpy(), showing["item"].to_numpy()]
    more = student(len(showing)) * float(earned.std(ddof=1)) / len(showing) ** 0.5
    low, high = value.value - value.low, value.high - value.value
    return Estimate(value.value, value.value - float(np.hypot(low, more)), value.value + float(np.hypot(high, more)))


def words(estimate: Estimate, own: Estimate, never: float) -> str:
    """Return what the estimate is worth, in words; `never`: share of what the policy shows that the log never did."""
    gap = estimate.value - own.value
    down = np.hypot(estimate.value - estimate.low, own.high - own.value)
    up = np.hypot(estimate.high - estimate.value, own.value - own.low)
    agrees = gap - down <= 0 <= gap + up
    if estimate.too_wide:
        told = f"too wide to mean anything; {'' if agrees else 'even so not '}compatible with its own rate"
    else:
        told = f"{'agrees' if agrees else 'does not agree'} with its own rate"
    return told + (f"; of {never:.0%} of what it shows the log knows nothing" if never >= 0.005 else "")


def comparisons(impressions: pd.DataFrame) -> Iterator[Comparison]:
    """Yield what each policy's log says of every other one, by campaign."""
    for name, rows in impressions.groupby("campaign", sort=True):
        campaign = Campaign.of(rows)
        for log, policy in permutations(sorted(rows["policy"].unique()), 2):
            showing = campaign.log(policy)
            target, how = probabilities(showing, campaign.n_positions, campaign.n_items)
            data, model = logged(campaign.log(log), target)
            never = unknown_share(campaign.log(log), target)
            sums = user_sums(data)
            zeros = np.zeros(len(showing))
            own_log = Logged(
                showing["click"].to_numpy(), zeros + 1, zeros + 1, showing["visit"].to_numpy(), zeros, zeros
            )
            own = shown(user_sums(own_log)).estimate
            for estimator in (snips, doubly_robust):
                found = estimator(sums)
                value = widened(found.estimate, showing, model) if how == "estimated" else found.estimate
                yield Comparison(
                    str(name), log, policy, estimator.__name__, how, int(data.reward.sum()), len(data.reward),
                    found.effective, found.support.value, never, value.value, value.low, value.high, own.value, own.low,
                    own.high, words(value, own, never),
                )  # fmt: skip


def page(found: list[Comparison]) -> str:
    """Return a Markdown table; rates are clicks of 1,000 exposures."""

    def rate(value: float, low: float, high: float) -> str:
        return f"{1000 * value:.2f} [{1000 * low:.2f}, {1000 * high:.2f}]"

    lines = [
        "| campaign | log | policy | its probabilities | estimator | clicks in the log | effective exposures "
        "| mean weight | estimate | its own rate | what it says |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.campaign} | {one.log} | {one.policy} | {one.probabilities} | {one.estimator.replace('_', ' ')} "
        f"| {one.clicks} | {one.effective:,.0f} of {one.exposures:,} | {one.mean_weight:.2f} "
        f"| {rate(one.value, one.low, one.high)} | {rate(one.own, one.own_low, one.own_high)} | {one.says} |"
        for one in found
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with impressions.parquet")
    parser.add_argument("--json", type=Path, help="write all figures there, too")
    arguments = parser.parse_args()
    found = [*comparisons(pd.read_parquet(arguments.folder / "impressions.parquet"))]
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in found], indent=1), encoding="utf-8")
    wide = sum("too wide" in one.says for one in found)
    agree = sum("not" not in one.says.split(" own rate")[0] for one in found)
    print(page(found))
    print(
        f"\nClicks of 1,000 exposures, with 95 % intervals over visits. Of {len(found)} estimates {wide} are too wide "
        f"to mean anything (further than half of the value to one side); {agree} are compatible with the own rate."
    )


if __name__ == "__main__":
    main()
