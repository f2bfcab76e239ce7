"""From what was measured to what the rules of the next run look at (learning.decision.Evidence)."""

from collections.abc import Mapping, Sequence

from ganrec_spark.config.lists import NO_FILL, PUBLISHED, Arm
from ganrec_spark.learning import seen as lists
from ganrec_spark.learning.decision import Against, Evidence
from ganrec_spark.learning.drifted import Measured
from ganrec_spark.learning.effects import METRICS, Difference, level
from ganrec_spark.learning.experiment import Group
from ganrec_spark.learning.fills import DECIDES, OF_FILL, SERVED
from ganrec_spark.learning.moments import Estimate, Moments
from ganrec_spark.plan.table import NONE

Differences = Mapping[tuple[Group, str, str], Difference]


def evidence(
    found: Mapping[Group, Moments],
    compared: Differences,
    arms: Sequence[Arm],
    kind: str,
    fill: str,
    drift: Sequence[Measured],
    mismatch: float,
    counts: tuple[int, int, int],
) -> Evidence:
    """Return what the rules look at; `counts`: events since, ratings trained on, users whom the events are of."""
    ours = next((arm.name for arm in arms if arm.lists == PUBLISHED), "")
    without = next((arm.name for arm in arms if arm.lists == NO_FILL), "")

    def effect(which: str, control: str, segment: str) -> Estimate | None:
        one = compared.get((Group(which, ours, segment, kind), control, DECIDES))
        return None if one is None else one.estimate

    against = []
    for arm in arms:
        now = effect(lists.PUBLISHED, arm.name, "all")
        if arm.lists not in (PUBLISHED, NO_FILL) and now is not None:
            theirs = level(found[Group(lists.PUBLISHED, arm.name, "all", kind)], METRICS[DECIDES])
            against.append(Against(arm.name, theirs.value, now, effect(lists.EARLIER, arm.name, "all")))
    values = {one.name: one for one in drift}
    events, ratings, users = counts
    return Evidence(
        mismatch=mismatch,
        against=tuple(against),
        fill="" if fill == NONE else fill,
        fill_effect=effect(OF_FILL + fill, without, SERVED) if without else None,
        index={name: one.beyond_chance for name, one in values.items() if one.by_chance is not None},
        new_users=values["new_users"].value or 0.0,
        new_items=values["new_items"].value or 0.0,
        events=events,
        ratings=ratings,
        changed_users=users,
    )
