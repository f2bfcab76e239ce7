"""Each rule of the next run, and which fills the gate may not accept."""

from dataclasses import replace

import pytest

from ganrec_spark.config.learning import Learn
from ganrec_spark.learning.decision import Against, Evidence, FillFeedback, next_run, refused_fills
from ganrec_spark.learning.moments import Estimate
from ganrec_spark.plan.learning_tables import ACTIONS

SETTINGS = Learn()
QUIET = Evidence(events=5000, ratings=1_000_000, changed_users=12)
WORSE, SAME, BETTER = Estimate(-0.03, -0.04, -0.02), Estimate(0.0, -0.01, 0.01), Estimate(0.02, 0.01, 0.03)


def against(now: Estimate, earlier: Estimate | None = SAME) -> tuple[Against, ...]:
    return (Against("popular", 0.1, now, earlier),)


CASES = [
    (Evidence(), "nothing", "no event has come"),
    (replace(QUIET, events=12), "refresh", "12 users have events"),
    (replace(QUIET, events=10_000), "fine_tune", "10000 events since"),
    (replace(QUIET, events=9_999), "refresh", "12 users"),
    (replace(QUIET, index={"items": 0.3}), "retrain", "items have drifted: index 0.30, 0.25 allowed"),
    (replace(QUIET, index={"items": 0.25}), "refresh", ""),
    (replace(QUIET, index={"items": 0.3}, events=999), "refresh", ""),  # too few events to judge by
    (replace(QUIET, new_users=0.2), "retrain", "20% of users since are new"),
    (replace(QUIET, new_items=0.11), "retrain", "11% of events on items since are new"),
    (replace(QUIET, fill="vae_top10", fill_effect=WORSE, new_items=0.2), "gate_again", "fill vae_top10 are worse"),
    (replace(QUIET, fill="vae_top10", fill_effect=SAME), "refresh", ""),
    (replace(QUIET, fill="vae_top10", fill_effect=BETTER), "refresh", ""),
    (replace(QUIET, against=against(WORSE), fill="f", fill_effect=WORSE), "roll_back", "worse"),
    (replace(QUIET, against=against(WORSE, WORSE)), "retrain", "going back would not help"),
    (replace(QUIET, against=against(WORSE, None)), "retrain", "going back would not help"),
    (replace(QUIET, against=against(Estimate(-0.02, -0.03, -0.009))), "refresh", ""),  # less than a tenth of 0.1
    (replace(QUIET, against=against(WORSE), mismatch=0.0001), "refresh", "arms are not compared"),
    (replace(QUIET, fill="f", fill_effect=WORSE, mismatch=0.0001), "refresh", "arms are not compared"),
]


@pytest.mark.parametrize(("found", "action", "words"), CASES)
def test_the_gravest_rule_that_holds_decides(found: Evidence, action: str, words: str) -> None:
    decided, reason = next_run(found, SETTINGS)
    if action == "roll_back":
        words = "arm popular with 0.1000: provably more than 10% below it"
    assert decided == action
    assert words in reason


def test_every_action_can_be_decided() -> None:
    assert {action for _, action, _ in CASES} == set(ACTIONS)


def test_a_fill_is_refused_by_so_many_gates_after_the_finding() -> None:
    bad = FillFeedback("2026-11-03", "vae_top10", WORSE)
    runs = [f"2026-11-{day:02}" for day in range(9, 0, -1)]
    for cooldown, expected in ((7, True), (6, False), (0, False)):
        assert ("vae_top10" in refused_fills([bad], runs, cooldown)) is expected
    reason = refused_fills([bad], runs, 7)["vae_top10"]
    assert "run 2026-11-03 found people worse off with it: -0.0300 [-0.0400, -0.0200]" in reason


def test_only_what_is_proven_refuses_and_the_newest_finding_is_told() -> None:
    learnt = [
        FillFeedback("2026-11-02", "a", WORSE),
        FillFeedback("2026-11-03", "a", replace(WORSE, value=-0.035)),
        FillFeedback("2026-11-03", "b", SAME),
        FillFeedback("2026-11-03", "c", BETTER),
    ]
    found = refused_fills(learnt, ["2026-11-03", "2026-11-02"], 7)
    assert found.keys() == {"a"}
    assert "run 2026-11-03 found" in found["a"]
    assert "-0.0350" in found["a"]
