"""What to do next, by rules that can be read: the first that holds, the gravest first.

roll_back, gate_again, retrain, fine_tune, refresh, nothing: each is more work or more change than those after it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ganrec_spark.config.learning import Learn
from ganrec_spark.learning.effects import MISMATCH
from ganrec_spark.learning.moments import Estimate


@dataclass(frozen=True)
class Against:
    """The published arm's rate minus that of arm `control`: of this run's lists, and of those of runs before."""

    control: str
    rate: float
    now: Estimate
    earlier: Estimate | None = None


@dataclass(frozen=True)
class Evidence:
    """What the rules look at.

    `mismatch`: probability that chance alone makes the arms so uneven. `against`: comparisons with arms that list a
    member or popularity. `fill`, `fill_effect`: the fill of this run's lists, and the rate of the arm with it minus
    that of the arm without. `index`: name -> stability index beyond what chance makes. `new_users`, `new_items`: shares
    of users and of events that the published models do not know. `events` since they were trained on `ratings`,
    `changed_users` whom they are of.
    """

    mismatch: float = 1.0
    against: tuple[Against, ...] = ()
    fill: str = ""
    fill_effect: Estimate | None = None
    index: Mapping[str, float] = field(default_factory=dict)
    new_users: float = 0.0
    new_items: float = 0.0
    events: int = 0
    ratings: int = 0
    changed_users: int = 0


def next_run(found: Evidence, settings: Learn) -> tuple[str, str]:
    """Return one of plan.learning_tables.ACTIONS and the reason in words."""
    broken = found.mismatch < MISMATCH
    note = (
        f"; arms are not compared, for their sizes do not fit their shares (p = {found.mismatch:.1g})" if broken else ""
    )
    for rule in _RULES if broken else (_roll_back, _gate_again, *_RULES):
        if decided := rule(found, settings):
            return decided[0], decided[1] + note
    return "nothing", "no event has come that the published lists do not know" + note


def _far_below(one: Against, difference: Estimate | None, settings: Learn) -> bool:
    return difference is not None and difference.high < -settings.roll_back_loss * one.rate


def _roll_back(found: Evidence, settings: Learn) -> tuple[str, str] | None:
    """Return the way back, where the published lists are provably far below a control arm, those before not.

    Where those before were as bad, going back would not help: the models are trained anew.
    """
    for one in found.against:
        if not _far_below(one, one.now, settings):
            continue
        told = (
            f"the published lists have a {settings.kind} rate {one.now.value:+.4f} {_bounds(one.now)} against arm "
            f"{one.control} with {one.rate:.4f}: provably more than {settings.roll_back_loss:.0%} below it "
            "(learn.roll_back_loss)"
        )
        if one.earlier is None or _far_below(one, one.earlier, settings):
            return "retrain", f"{told}; no lists before them in learn.days were better, so going back would not help"
        harm = _gate_again(found, settings)
        return "roll_back", f"{told}; those of the runs before were not" + (f"; {harm[1]}" if harm else "")
    return None


def _gate_again(found: Evidence, settings: Learn) -> tuple[str, str] | None:
    effect = found.fill_effect
    if effect is None or effect.high >= 0:
        return None
    return "gate_again", (
        f"sparse users' lists with fill {found.fill} are worse than those without: {settings.kind} rate "
        f"{effect.value:+.4f} {_bounds(effect)}; the next gates refuse it (gate.cooldown_runs)"
    )


def _retrain(found: Evidence, settings: Learn) -> tuple[str, str] | None:
    if found.events < settings.min_events:
        return None
    reasons = [
        f"{name} have drifted: index {index:.2f}, {settings.retrain_psi:g} allowed (learn.retrain_psi)"
        for name, index in sorted(found.index.items())
        if index > settings.retrain_psi
    ]
    shares = {"users": found.new_users, "events on items": found.new_items}
    reasons += [
        f"{share:.0%} of {name} since are new to the models, {settings.retrain_new_share:.0%} allowed "
        "(learn.retrain_new_share)"
        for name, share in shares.items()
        if share > settings.retrain_new_share
    ]
    return ("retrain", "; ".join(reasons)) if reasons else None


def _fine_tune(found: Evidence, settings: Learn) -> tuple[str, str] | None:
    if not found.events or found.events < settings.fine_tune_share * found.ratings:
        return None
    return "fine_tune", (
        f"{found.events} events since the models were trained on {found.ratings} ratings, which is at least "
        f"{settings.fine_tune_share:.1%} (learn.fine_tune_share)"
    )


def _refresh(found: Evidence, _: Learn) -> tuple[str, str] | None:
    if not found.changed_users:
        return None
    return "refresh", f"{found.changed_users} users have events that their lists do not know yet"


_RULES = (_retrain, _fine_tune, _refresh)


def _bounds(one: Estimate) -> str:
    return f"[{one.low:+.4f}, {one.high:+.4f}]"


@dataclass(frozen=True)
class FillFeedback:
    """What an earlier run learnt of a fill: the rate of the arm with it minus that of the arm without."""

    run_id: str
    fill: str
    effect: Estimate


def refused_fills(learnt: Iterable[FillFeedback], gates: Sequence[str], cooldown: int) -> dict[str, str]:
    """Return fill -> reason of the fills that the gate may not accept, for people were worse off with them.

    `gates`: the runs before this one whose gate judged, newest first. What one of the newest `cooldown` of them learnt
    counts, so as many gates after it refuse; of several findings the newest is told. A later finding in the fill's
    favour is none: after the first refusal nobody is shown it.
    """
    recent = {run: place for place, run in enumerate(gates[:cooldown])}
    guilty = [one for one in learnt if one.run_id in recent and one.effect.high < 0]
    return {
        one.fill: (
            f"run {one.run_id} found people worse off with it: {one.effect.value:+.4f} {_bounds(one.effect)} of "
            f"exposures used; refused by {cooldown} gates (gate.cooldown_runs)"
        )
        for one in sorted(guilty, key=lambda one: -recent[one.run_id])
    }
