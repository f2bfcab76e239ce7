"""Serve in Spark, a partition of users at a time: each the list that their arm says, by the rules, maybe explored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from ganrec_spark.blend.fusion import ALIKE, Fusion, arrays, filled_up
from ganrec_spark.blend.serving import ALIKE_BIT, POPULARITY_BIT, Catalogue, Items, Offer, Terms, final_list
from ganrec_spark.blend.weights import place_values
from ganrec_spark.config.lists import NO_FILL, PUBLISHED
from ganrec_spark.experiment.explore import Exploration
from ganrec_spark.frames.histories import lists
from ganrec_spark.frames.mapped import Mapper, by_tasks
from ganrec_spark.frames.ship import Shipped
from ganrec_spark.plan.members import MEMBER_NAMES, POPULARITY
from ganrec_spark.plan.table import NONE
from ganrec_spark.rules.shipped import ShippedRules

NEW_COLUMNS = ("new_items", "new_items_scores")  # of the new items for a user
_EXPLORED = (PUBLISHED, NO_FILL)

_SERVED = (
    "user_idx int, items array<int>, scores array<double>, members array<int>, because array<int>, "
    "propensities array<double>, changed int, n_unseen int, n_available int, candidates array<array<int>>, "
    "candidate_scores array<array<float>>"
)
_SERVED_ARROW = pa.schema(
    [
        ("user_idx", pa.int32()),
        ("items", pa.list_(pa.int32())),
        ("scores", pa.list_(pa.float64())),
        ("members", pa.list_(pa.int32())),
        ("because", pa.list_(pa.int32())),
        ("propensities", pa.list_(pa.float64())),
        ("changed", pa.int32()),
        ("n_unseen", pa.int32()),
        ("n_available", pa.int32()),
        ("candidates", pa.list_(pa.list_(pa.int32()))),
        ("candidate_scores", pa.list_(pa.list_(pa.float32()))),
    ]
)


@dataclass(frozen=True)
class Serving:
    """How lists are made of what is fused: n items of `n_candidates`, by the arm's `lists` (config.lists.LISTED).

    `arms`: arm -> what it lists; `published`: the fill of the published blend. `exploration` draws in lists of a blend
    alone: what an arm is compared with stays as it is. So are the `new_slots` places of each list for new items.
    """

    published: str
    tail: str
    n: int
    n_candidates: int
    arms: Mapping[str, str]
    rules: ShippedRules
    exploration: Exploration | None = None
    new_slots: int = 0


def serve(
    rows: DataFrame, fusions: Mapping[str, Fusion], how: Serving, facts: Shipped, run: Mapper = by_tasks
) -> DataFrame:
    """Return each user's final list: blend.serving.Served as columns, one row per user.

    In: one row per user as every `Fusion` reads them, with user_idx, arm, seen (observed items), disliked, and a column
    of items for each rule in `how.rules.per_user`; new_items and new_items_scores where lists have places for them; the
    list of the tail fills up. `facts`: the arrays of
    blend.serving.Catalogue. Columns candidates, candidate_scores are what `fuse_lists` gives of the same rows, a list
    per fill in the order of `fusions`.
    """

    def recommend(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        catalogue = Catalogue(facts["popular"], facts["allowed"], facts["indptr"], facts["neighbours"])
        rules, constant = how.rules.opened(), fusions[how.published].constant
        for batch in batches:
            fused = {fill: fusion.fused(batch) for fill, fusion in fusions.items()}
            listed = [how.arms[arm] for arm in batch.column("arm").to_pylist()]
            offers = offers_of(batch, fused, fusions, how, listed, catalogue)
            barred = [lists(batch, rule) for rule in how.rules.per_user]
            users = batch.column("user_idx").to_pylist()
            own = zip(offers, lists(batch, "seen"), lists(batch, "disliked"), listed, users, strict=True)
            served = [
                final_list(
                    offer,
                    constant,
                    seen,
                    disliked,
                    catalogue,
                    how.n,
                    Terms(
                        rules,
                        {rule: per_user[row] for rule, per_user in zip(how.rules.per_user, barred, strict=True)},
                        how.exploration if kind in _EXPLORED else None,
                        user_idx,
                        how.new_slots if kind in _EXPLORED else 0,
                    ),
                )
                for row, (offer, seen, disliked, kind, user_idx) in enumerate(own)
            ]
            found = [[getattr(user, name) for user in served] for name in _SERVED_ARROW.names[1:-2]]
            tails = lists(batch, how.tail)
            filled = [
                filled_up(fused[fill], tails, fusion.constant, how.n_candidates) for fill, fusion in fusions.items()
            ]
            per_user = [list(zip(*part, strict=True)) for part in zip(*filled, strict=True)]
            columns = arrays([batch.column("user_idx"), *found, *per_user], _SERVED_ARROW)
            yield pa.RecordBatch.from_arrays(columns, schema=_SERVED_ARROW)

    return run(rows, recommend, _SERVED)


def offers_of(
    batch: pa.RecordBatch,
    fused: Mapping[str, list[tuple[NDArray[np.int64], NDArray[np.float64]]]],
    fusions: Mapping[str, Fusion],
    how: Serving,
    listed: Sequence[str],
    catalogue: Catalogue,
) -> list[Offer]:
    """Return what each row's user is offered, by what their arm lists.

    A member's list is the one that goes into the published blend.
    """
    tails, seen, nobody = lists(batch, how.tail), lists(batch, "seen"), np.zeros(len(MEMBER_NAMES))
    alike = lists(batch, ALIKE)
    new: list[tuple[Items, NDArray[np.float64]]] = []
    if how.new_slots:
        new = [(own, of.astype(np.float64)) for own, of in zip(*(lists(batch, c) for c in NEW_COLUMNS), strict=True)]
    empty = np.empty(0, dtype=np.int64), np.empty(0)
    of_fill = {
        fill: list(zip(*(lists(batch, name) for name in fusions[fill].members), strict=True)) for fill in fusions
    }

    def offer(row: int, kind: str) -> Offer:
        if kind == POPULARITY:
            popular = catalogue.popular[: how.n_candidates + len(seen[row])]  # enough but for the odd user
            return Offer(empty, (), nobody[:0], popular, POPULARITY_BIT)
        fill = NONE if kind == NO_FILL else how.published
        fusion, ranked = fusions[fill], of_fill[fill][row]
        if kind in _EXPLORED and len(alike[row]):
            return Offer(fused[fill][row], (), nobody[:0], tails[row], ALIKE_BIT, *new[row : row + 1])
        if kind in _EXPLORED:
            return Offer(fused[fill][row], ranked, fusion.weights, tails[row], 0, *new[row : row + 1])
        member = MEMBER_NAMES.index(kind)
        items = ranked[member].astype(np.int64)
        alone = nobody.copy()
        alone[member] = 1.0
        return Offer((items, place_values(items, "ranks", fusion.constant)), ranked, alone, tails[row])

    return [offer(row, kind) for row, kind in enumerate(listed)]
