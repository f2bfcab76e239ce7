"""The gate's rules: cases by hand, and how often worlds without a useful fill get one accepted."""

from dataclasses import replace

import numpy as np
import pytest

from ganrec_spark.config.sections import Gate
from ganrec_spark.evaluation.bootstrap import Lift, bonferroni, poisson_weights, relative_lift
from ganrec_spark.fills.rules import (
    FEEDBACK,
    Judgement,
    Segment,
    harmed,
    promising,
    refusal,
    refused,
    screened,
    segment_rows,
    settle,
)

GAIN, NOTHING = Lift(0.2, 0.1, 0.3), Lift(0.0, 0.0, 0.0)


def confirmed(**segments: tuple[int, Lift]) -> Judgement:
    whole = {"all": (1000, GAIN), "sparse": (500, GAIN), "dense": (500, NOTHING)} | segments
    named = {name.replace("_", ":", 1): Segment(*values) for name, values in whole.items()}
    return Judgement("cgan_top1", level="confirm", segments=named, coverage_ratio=1.0)


@pytest.mark.parametrize(
    ("item", "verdict"),
    [
        (confirmed(), ""),
        (confirmed(sparse=(500, Lift(0.2, 0.0, 0.4))), "interval_includes_zero"),
        (confirmed(all=(1000, Lift(0.1, -0.0051, 0.2))), "harms_overall"),
        # Sparse users gain 20 %, all gain, and dense ones lose 30 %.
        (confirmed(dense=(500, Lift(-0.3, -0.4, -0.2))), "harms_segment"),
        # It is enough that it is not proven that they lose no more than the tolerance.
        (confirmed(dense=(500, Lift(0.05, -0.02, 0.12))), "harms_segment"),
        (confirmed(bucket_6=(300, Lift(0.02, -0.01, 0.1))), "harms_segment"),
        (confirmed(bucket_6=(299, Lift(-0.5, -0.9, 0.1))), ""),
        (confirmed(bucket_6=(300, Lift(0.02, -0.004, 0.1))), ""),
        (replace(confirmed(), coverage_ratio=0.4), "narrows_coverage"),
    ],
)
def test_a_fill_has_to_help_sparse_users_and_harm_no_segment(item: Judgement, verdict: str) -> None:
    assert refusal(item, Gate()) == verdict


def test_a_tolerance_of_nothing_lets_those_pass_whose_lists_do_not_change() -> None:
    assert refusal(confirmed(), Gate(tolerance=0.0)) == ""
    assert refusal(confirmed(dense=(500, Lift(0.0, -0.001, 0.0))), Gate(tolerance=0.0)) == "harms_segment"


def test_the_reason_names_who_is_harmed() -> None:
    item = confirmed(dense=(500, Lift(-0.3, -0.4, -0.2)))
    assert harmed(item, Gate()) == ["dense"]
    (settled,) = settle([item], Gate())
    assert "dense -30.0 % [-40.0 %, -20.0 %]".replace(" %", "%") in settled.reason
    assert segment_rows([settled])[2] == ("cgan_top1", "dense", 500, -0.3, -0.4, -0.2)


def test_a_fill_that_tells_als_what_it_knows_is_refused() -> None:
    def verdict(echoed: float) -> str:
        item = Judgement("cgan_top1", segments={"sparse": Segment(90, Lift(0.05, 0.02, 0.08))})
        controls = {"shuffled:cgan_top1": 0.0, "self_training:cgan_top1": echoed}
        return screened(item, ["cgan_top1"], controls, None).verdict

    assert verdict(0.05) == "no_better_than_self_training"
    assert verdict(0.04) == ""


def accepted(rng: np.random.Generator, weights: np.ndarray, screens: np.ndarray, proves: np.ndarray, n: int) -> bool:
    """Return whether a world accepts one of `n` fills that change each user by noise, nobody on average.

    The rules alone, with users split by hand; that the stage splits them so is tested in spark/fills/test_gate.py.
    """
    settings, users = Gate(), len(weights)
    # One hit in ten lists; a fill moves a third of the hits, as often up as down.
    before = np.where(rng.random(users) < 0.3, rng.uniform(0.3, 1.0, users), 0.0)
    fills = {f"fill_{k}": np.where(rng.random(users) < 0.1, rng.permutation(before), before) for k in range(n)}

    def judged(name: str, who: np.ndarray, confidence: float, level: str) -> Judgement:
        sums = (values[who] @ weights[who] for values in (before, fills[name]))
        found = Segment(int(who.sum()), relative_lift(*sums, confidence))
        segments = {"sparse": found, "all": Segment(found.n_users, replace(found.lift, low=0.0))}
        return Judgement(name, level=level, segments=segments, coverage_ratio=1.0)

    seen = [judged(name, screens, settings.confidence, "screen") for name in fills]
    finalists = promising(seen, settings)
    confidence = bonferroni(settings.confidence, len(finalists))
    proven = [judged(name, proves, confidence, "confirm") for name in finalists]
    return any(item.verdict == "accepted" for item in settle(proven, settings))


def test_worlds_of_useless_fills_accept_one_in_at_most_five_per_cent() -> None:
    rng, worlds, users = np.random.default_rng(0), 150, 450
    weights = poisson_weights(np.arange(users), 400, seed=0)
    screens = np.arange(users) % 3 == 0
    everyone = np.ones(users, dtype=bool)
    apart = np.mean([accepted(rng, weights, screens, ~screens, 18) for _ in range(worlds)])
    # Those who chose the best two of 18 are too kind to them: without a part of their own that proves, many pass.
    together = np.mean([accepted(rng, weights, everyone, everyone, 18) for _ in range(worlds)])
    assert apart <= 0.05
    assert together > 0.08


def test_a_fill_that_people_were_worse_off_with_is_refused_whatever_validation_says() -> None:
    """It takes no finalist's place, no later rule gives it another verdict, and another fill is accepted."""
    other = replace(
        confirmed(), fill="vae_top1", segments=confirmed().segments | {"sparse": Segment(500, Lift(0.1, 0.05, 0.2))}
    )
    bad, good = refused([confirmed(), other], {"cgan_top1": "run 2026-11-01 found people worse off with it"})
    assert (bad.verdict, good.verdict) == (FEEDBACK, "")
    assert promising([bad, good], Gate(finalists=1)) == ["vae_top1"]
    assert screened(bad, ["vae_top1"], {}, None) is bad
    settled = {item.fill: (item.verdict, item.reason) for item in settle([bad, good], Gate())}
    assert settled["cgan_top1"] == ("refused_by_feedback", "run 2026-11-01 found people worse off with it")
    assert settled["vae_top1"][0] == "accepted"
