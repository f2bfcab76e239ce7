"""The rules by which a fill is accepted: pure decisions on lifts that were measured elsewhere.

A fill has to help sparse users provably and harm no one provably: the lower bound for sparse users lies above 0, and
that for all users, for dense ones and for every bucket with enough users above minus the tolerance. All of these must
hold, so no bound need be wider for their number; finalists are several tests, and their bounds are (Bonferroni).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ganrec_spark.config.sections import Gate
from ganrec_spark.evaluation.bootstrap import Lift

# Controls: a finalist's own rows given to other users, and as many of ALS's own best items.
SHUFFLED, SELF_TRAINING = "shuffled:", "self_training:"
# Verdicts on every fill at once.
TOO_FEW, SINGLE_BUCKET = "too_few_users", "single_bucket"
# Verdict on what people did with lists that the fill had a part in.
FEEDBACK = "refused_by_feedback"


@dataclass(frozen=True)
class Segment:
    """The lift of a segment's users: all, sparse, dense or bucket:6-10, and their number."""

    n_users: int
    lift: Lift


@dataclass(frozen=True)
class Judgement:
    """What is known of a fill: its NDCG@k and lifts at `level`, and, once it is settled, the verdict."""

    fill: str
    is_popularity: bool = False
    level: str = "screen"
    before: float = 0.0
    after: float = 0.0
    segments: Mapping[str, Segment] = field(default_factory=dict)
    coverage_ratio: float | None = None
    verdict: str = ""
    reason: str = ""

    @property
    def sparse(self) -> Lift | None:
        """Return the lift of sparse users."""
        return self.segments["sparse"].lift if "sparse" in self.segments else None

    @property
    def overall(self) -> Lift | None:
        """Return the lift of all users, None for a fill that was only screened: sparse users alone do that."""
        return self.segments["all"].lift if "all" in self.segments and self.level == "confirm" else None


def refused(fills: Sequence[Judgement], reasons: Mapping[str, str]) -> list[Judgement]:
    """Return the fills, those with a reason (learning.decision.refused_fills) with a verdict."""
    return [
        replace(item, verdict=FEEDBACK, reason=reasons[item.fill]) if item.fill in reasons else item for item in fills
    ]


def promising(judged: Sequence[Judgement], settings: Gate) -> list[str]:
    """Return the fills to confirm: the gate.finalists of the largest lift by fold-in that may be above 0."""
    ahead = sorted(judged, key=lambda item: (-_value(item), item.fill))
    open_ = [item for item in ahead if not item.is_popularity and not item.verdict]
    hopeful = [item for item in open_ if item.sparse is not None and item.sparse.high > 0]
    return [item.fill for item in hopeful[: settings.finalists]]


def _value(item: Judgement) -> float:
    return item.sparse.value if item.sparse is not None else -np.inf


def screened(
    item: Judgement, finalists: Sequence[str], controls: Mapping[str, float], popular: float | None
) -> Judgement:
    """Return the fill with the rule that refused it at the screen; without a verdict it goes on.

    `controls` are the lifts of the finalists' controls, `popular` that of the best popularity fill.
    """
    lift = item.sparse
    if lift is None or item.verdict:
        return item
    found = f"sparse users {words(lift)} by fold-in"
    if item.is_popularity:
        return replace(item, verdict="no_better_than_popularity", reason=f"{found}; it is the control of the others")
    if lift.high <= 0:
        return replace(item, verdict="interval_includes_zero", reason=f"{found}: no gain")
    if item.fill not in finalists:
        return replace(item, verdict="not_a_finalist", reason=f"{found}; others promise more")
    if popular is not None and lift.value <= popular:
        return replace(item, verdict="no_better_than_popularity", reason=f"{found}; a popularity fill {popular:+.1%}")
    shuffled, echoed = (controls[kind + item.fill] for kind in (SHUFFLED, SELF_TRAINING))
    if lift.value <= shuffled:
        reason = f"{found}; with the rows of other users {shuffled:+.1%}: it is not personal"
        return replace(item, verdict="no_better_than_shuffled", reason=reason)
    if lift.value <= echoed:
        reason = f"{found}; with ALS's own best items {echoed:+.1%}: it tells ALS nothing new"
        return replace(item, verdict="no_better_than_self_training", reason=reason)
    return item


def settle(judged: list[Judgement], settings: Gate) -> list[Judgement]:
    """Return the fills with a verdict each: of those that pass every rule, the surest gain is accepted."""
    ruled = [item if item.verdict else replace(item, verdict=refusal(item, settings)) for item in judged]
    passed = [item for item in ruled if not item.verdict]
    best = max(passed, key=lambda item: (item.sparse.low if item.sparse else 0.0, item.fill), default=None)
    return [
        item
        if item.reason
        else replace(item, verdict=item.verdict or _place(item, best), reason=_reason(item, best, settings))
        for item in ruled
    ]


def refusal(item: Judgement, settings: Gate) -> str:
    """Return the rule that a confirmed fill breaks, or an empty text."""
    if item.sparse is None or item.sparse.low <= 0:
        return "interval_includes_zero"
    if item.overall is None or item.overall.low < -settings.tolerance:
        return "harms_overall"
    if harmed(item, settings):
        return "harms_segment"
    if item.coverage_ratio is None or item.coverage_ratio < settings.min_coverage_ratio:
        return "narrows_coverage"
    return ""


def harmed(item: Judgement, settings: Gate) -> list[str]:
    """Return the segments with enough users for which it is not proven that they lose no more than the tolerance."""
    return [
        name
        for name, segment in item.segments.items()
        if name not in ("all", "sparse")
        and segment.n_users >= (1 if name == "dense" else settings.min_bucket_users)
        and segment.lift.low < -settings.tolerance
    ]


def _place(item: Judgement, best: Judgement | None) -> str:
    return "accepted" if item is best else "not_the_best"


def _reason(item: Judgement, best: Judgement | None, settings: Gate) -> str:
    parts = [f"sparse users {words(item.sparse)}"] if item.sparse else []
    if item.overall:
        parts.append(f"all users {words(item.overall)}")
    parts += [f"{name} {words(item.segments[name].lift)}" for name in harmed(item, settings)]
    if item.coverage_ratio is not None:
        parts.append(f"coverage x {item.coverage_ratio:.2f}")
    if not item.verdict and best is not None and item is not best:
        parts.append(f"{best.fill} gains more surely")
    return ", ".join(parts) + f" (NDCG, {item.level})"


def words(lift: Lift) -> str:
    """Return a lift with its interval in per cent."""
    return f"{lift.value:+.1%} [{lift.low:+.1%}, {lift.high:+.1%}]"


def segment_rows(judged: Sequence[Judgement]) -> list[tuple[str, str, int, float, float, float]]:
    """Return what became of each segment by each confirmed fill, as table gate_segments has it."""
    return [
        (item.fill, name, segment.n_users, segment.lift.value, segment.lift.low, segment.lift.high)
        for item in judged
        if item.level == "confirm" and not item.is_popularity and item.fill != "none"
        for name, segment in item.segments.items()
    ]


def decision_rows(judged: Sequence[Judgement], n_sparse: int, n_users: int) -> list[tuple[object, ...]]:
    """Return the rows of table gate_decisions; `n_sparse` and `n_users` are the validation users who confirm."""

    def bounds(lift: Lift | None) -> tuple[float | None, float | None, float | None]:
        return (lift.value, lift.low, lift.high) if lift is not None else (None, None, None)

    return [
        (
            item.fill,
            item.level,
            item.before,
            item.after,
            *bounds(item.sparse),
            *bounds(item.overall),
            item.coverage_ratio,
            n_sparse,
            n_users,
            item.verdict == "accepted",
            item.verdict,
            item.reason,
        )
        for item in judged
    ]
