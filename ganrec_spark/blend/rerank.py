"""Reorder the head of the blend by boosted trees that learned from validation users what a held-out item looks like.

Source: LambdaMART (Burges 2010, "From RankNet to LambdaRank to LambdaMART"), as LightGBM has it (Ke et al. 2017).
Rank fusion knows places only; the trees also see by how much an item leads, how popular it is, and how long the
user's history is. Letters: N items of one user's head, M members, F features, U users.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from ganrec_spark.evaluation.metrics import ndcg

Floats = NDArray[np.float64]
Items = NDArray[np.integer[Any]]

FOLDS = 2
_LEAVES = 7
_MIN_ITEMS_PER_LEAF = 50
_LEARNING_RATE = 0.05


@dataclass(frozen=True)
class Examples:
    """Heads of users with a held-out item among them: features [U, N, F], hits [U, N], held-out items [U], folds [U].

    Heads shorter than N end in rows of NaN without a hit.
    """

    features: NDArray[np.float32]
    hits: NDArray[np.bool_]
    n_relevant: NDArray[np.int64]
    fold: NDArray[np.int64]
    is_sparse: NDArray[np.bool_]


@dataclass(frozen=True)
class Verdict:
    """Change of NDCG@k that cross-fitted trees make, as a mean over all judged users, its lower bound, and sparse."""

    change: float
    low: float
    sparse_change: float

    @property
    def accepted(self) -> bool:
        """Whether the trees are provably better, and no worse for sparse users."""
        return self.low > 0 and self.sparse_change >= 0


def feature_names(members: Sequence[str]) -> list[str]:
    """Return the names of the F = 3 M + 3 features, in the order of `features`."""
    own = [f"{member}_{what}" for member in members for what in ("place", "score", "lead")]
    return [*own, "fused", "popularity", "history"]


def features(
    items: Items,
    fused: Floats,
    lists: Sequence[Items],
    scores: Sequence[NDArray[np.float32]],
    popularity: NDArray[np.float32],
    n_ratings: int,
) -> NDArray[np.float32]:
    """Return [N, F] for a head of `items`, with NaN where a member does not list the item.

    `lists` and `scores` [M] are the members' own, best first; `fused` [N] the scores of the fusion, `popularity`
    [I items] a number per item, `n_ratings` the length of the user's history.
    """
    table = np.full((len(items), 3 * len(lists) + 3), np.nan, dtype=np.float32)
    for member, (listed, values) in enumerate(zip(lists, scores, strict=True)):
        if not len(listed):
            continue
        order = np.argsort(listed, kind="stable")
        place = order[np.searchsorted(listed, items, sorter=order).clip(max=len(listed) - 1)]
        found = listed[place] == items
        place = place[found]
        table[found, 3 * member : 3 * member + 3] = np.stack([place, values[place], values[place] - values[0]], axis=1)
    table[:, -3:] = np.stack([fused, popularity[items], np.full(len(items), n_ratings)], axis=1)
    return table


def train(examples: Examples, trees: int, seed: int) -> str:
    """Return trees that order the heads of `examples` by LambdaMART, as LightGBM's text."""
    filled = _filled(examples.features)
    data = lightgbm.Dataset(
        examples.features[filled],
        examples.hits[filled].astype(np.int8),
        group=filled.sum(axis=1),
        params={"verbose": -1},
    )
    settings = {
        "objective": "lambdarank",
        "lambdarank_truncation_level": filled.shape[1],
        "num_leaves": _LEAVES,
        "min_data_in_leaf": _MIN_ITEMS_PER_LEAF,
        "learning_rate": _LEARNING_RATE,
        "lambda_l2": 5.0,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "feature_fraction": 0.8,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    return str(lightgbm.train(settings, data, trees).model_to_string())


def load(text: str) -> lightgbm.Booster:
    """Return the trees of `train`, ready to predict."""
    return lightgbm.Booster(model_str=text)


def gains(text: str, members: Sequence[str]) -> dict[str, float]:
    """Return each feature's share of what the trees' splits gained, largest first."""
    found = load(text).feature_importance("gain")
    shares = zip(feature_names(members), found / max(found.sum(), 1e-12), strict=True)
    return dict(sorted(((name, round(float(share), 4)) for name, share in shares), key=lambda pair: -pair[1]))


def predict(trees: lightgbm.Booster, rows: NDArray[np.float32], threads: int = 1) -> Floats:
    """Return a score per row of features [R, F]; more is better."""
    return np.asarray(trees.predict(rows, num_threads=threads), dtype=np.float64)


def reorder(items: NDArray[np.int64], scores: Floats) -> NDArray[np.int64]:
    """Return the list with its head of len(scores) items ordered by the trees' scores; equal ones stay in order."""
    head = np.argsort(-scores, kind="stable")
    return np.concatenate([items[head], items[len(head) :]])


def cross_fit(examples: Examples, trees: int, seed: int, k: int) -> tuple[list[str], Floats]:
    """Return a model per fold, trained on the others, and the change of NDCG@k [U] of each user by the own fold's."""
    models, changes = [], np.zeros(len(examples.fold))
    for fold in range(FOLDS):
        own = examples.fold == fold
        models.append(train(part(examples, ~own), trees, seed))
        changes[own] = ndcg_changes(part(examples, own), models[-1], k)
    return models, changes


def ndcg_changes(examples: Examples, model: str, k: int) -> Floats:
    """Return [U]: NDCG@k of each head in the trees' order minus that in the fusion's."""
    n_users, length, n_features = examples.features.shape
    if not n_users:
        return np.zeros(0)
    scores = predict(load(model), examples.features.reshape(-1, n_features), threads=0).reshape(n_users, length)
    scores[~_filled(examples.features)] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    after = np.take_along_axis(examples.hits, order, axis=1)
    change: Floats = ndcg(after, examples.n_relevant, k) - ndcg(examples.hits, examples.n_relevant, k)
    return change


def _filled(features: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return [U, N]: where a head has an item; the length of the history, the last feature, is always known."""
    return np.asarray(~np.isnan(features[:, :, -1]))


def part(examples: Examples, kept: NDArray[np.bool_]) -> Examples:
    """Return the examples of the users in the mask."""
    return Examples(*(getattr(examples, name)[kept] for name in Examples.__dataclass_fields__))


def verdict(changes: Floats, is_sparse: NDArray[np.bool_], n_users: int, n_sparse: int, confidence: float) -> Verdict:
    """Judge the changes [U] of users with a hit in the head; the other of all `n_users` judged users change by 0."""
    mean = float(changes.sum() / max(1, n_users))
    variance = float((changes**2).sum() / max(1, n_users)) - mean**2
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    low = mean - z * (max(0.0, variance) / max(1, n_users)) ** 0.5
    return Verdict(mean, low, float(changes[is_sparse].sum() / max(1, n_sparse)))
