"""Stage learn in a world whose answers are known: arms, policies, drift, and what the next run does of it."""

import logging
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import Row

from ganrec_spark.config.load import with_values
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import LakeError
from ganrec_spark.lake import events
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.lake.store import Lake
from ganrec_spark.learning.fills import refused_by_feedback
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.run.context import Context

FIRST, SECOND, NEXT = "2026-11-01", "2026-11-02", "2026-11-03"
USERS, POOL = 900, range(2, 10)  # ranks 1 and 2 are items 0 and 1; rank 3 is drawn from the pool
FILL, HARM = "vae_top3", 0.3  # of what people click without it, sparse users click so much of a filled list
UTILITY = np.linspace(0.1, 0.8, 20)  # chance of a click by item
ARMS = {"blend": "published", "plain": "no_fill", "popular": "popularity"}
RECEIVED = datetime(2026, 11, 3, 12)
# Run, edition and fill; the last one was written, and never shown.
EDITIONS = ((FIRST, "one", "none"), (SECOND, "two", FILL), (SECOND, "never", FILL))
Run = Callable[..., list[str]]


def arms(*shares: float) -> str:
    made = [f"{{name: {a}, share: {s}, lists: {w}}}" for (a, w), s in zip(ARMS.items(), shares, strict=True)]
    return f"experiment.arms=[{', '.join(made)}]"


EVEN = arms(0.4, 0.3, 0.3)
SETTINGS = ("learn.min_events=100", "learn.fine_tune_share=0.5", "sparsity.bucket_edges=[2, 4]")


def arm_of(user: int) -> str:
    return "blend" if user % 10 < 4 else "plain" if user % 10 < 7 else "popular"


def is_sparse(user: int) -> bool:
    return user // 10 % 2 == 0


def shown_and_clicked(
    run_id: str, edition: str, fill: str
) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Return exposures, without run_id, and clicks: (event_id, user, item, kind, value, time, received, edition)."""
    rng, exposures, clicks = np.random.default_rng(len(edition) + len(fill)), [], []
    weights = np.linspace(1, 3, len(POOL)) / np.linspace(1, 3, len(POOL)).sum()
    day = datetime.fromisoformat(run_id) + timedelta(days=1)
    for user in range(USERS):
        drawn = int(rng.choice(len(POOL), p=weights))
        harmed = fill != "none" and arm_of(user) == "blend" and is_sparse(user)
        for rank, item in enumerate((0, 1, POOL[drawn]), 1):
            propensity = float(weights[drawn]) if rank == 3 else 1.0
            exposures.append((edition, user, rank, item, arm_of(user), propensity, "ranked"))
            if rng.random() < UTILITY[item] * (HARM if harmed else 1.0):
                name = f"{edition}-{user}-{rank}"
                clicks.append((name, user, item, "click", 2.0, day, RECEIVED, edition, None, None, None))
    return exposures, clicks


@pytest.fixture
def world(lake: Lake, make_config: Callable[..., Config]) -> Callable[..., Context]:
    """Return what makes two published runs, the second one with a fill that harms, and the context of learning."""

    def make(*overrides: str) -> Context:
        config = make_config(*SETTINGS, *overrides)
        stage = STAGE_BY_NAME["learn"]
        staged = StageLake(lake, SECOND, "learn", None, stage.reads, stage.writes)
        frame = staged.frame
        for run_id, edition, fill in EDITIONS:
            exposures, _ = shown_and_clicked(run_id, edition, fill)
            twice = [
                (edition, USERS, 1, 0, "blend" if edition == "one" else "plain", 1.0, "ranked")
            ]  # who counts in no arm
            lake.replace("exposures", frame("exposures", exposures + twice), run_id, only={"edition": edition})
            if edition != "never":
                lake.point_to(run_id, edition, instead=lake.published())
        ratings = [(u, i, 1.0, datetime(2026, 10, 1), "source") for u in range(USERS) for i in range(u % 5)]
        segments = [(u, name) for u in range(USERS) for name in ("sparse" if is_sparse(u) else "dense", "bucket:1-2")]
        blends = {
            run: [(fill, "als", 1.0, "ranks", None, None, True)] for run, fill in ((FIRST, "none"), (SECOND, FILL))
        }
        lists = {"als": [1, 5, 6], "popularity": [15, 0], "blend": [0, 1, 9]}
        for run_id in (FIRST, SECOND):
            ingest = ("ingest", "", "done", "", 60.0, datetime(2026, 11, 2, 1), "e", "o")
            for name, rows in {
                "ratings": ratings, "user_segments": segments, "blend_weights": blends[run_id], "stage_log": [ingest],
            }.items():  # fmt: skip
                lake.replace(name, frame(name, rows), run_id)
            for name, items in lists.items():
                own_lists = [("none", u, items, [1.0] * len(items)) for u in range(USERS)]
                if name == "blend" and run_id == SECOND:
                    own_lists += [(FILL, u, [0, 7], [1.0, 0.5]) for u in range(USERS)]
                lake.replace(f"{name}_candidates", frame(f"{name}_candidates", own_lists), run_id, "final")
        events.append(lake, "feedback_events", frame("feedback_events", []))
        return Context(lake.spark, config, staged, SECOND, None, "")

    return make


def rows_of(context: Context, table: str, *key: str) -> dict[tuple[object, ...], Row]:
    return {tuple(row[name] for name in key): row for row in context.lake.read(table).collect()}


def test_what_is_learnt_is_what_the_world_was_made_of(
    world: Callable[..., Context], run_alone: Run, make_config: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    context = world(EVEN)
    run_alone(context.config, "learn", run_id=SECOND)
    (decision,) = context.lake.read("next_run").collect()
    assert (decision.action, decision.n_events) == ("nothing", 0)  # nothing has happened yet

    log = [("x", 1, 19, "click", None, RECEIVED, RECEIVED, None, None, None, None)]  # of no list
    log += [row for edition in EDITIONS for row in shown_and_clicked(*edition)[1]]
    events.append(context.lake.lake, "feedback_events", context.lake.frame("feedback_events", log))
    (message,) = run_alone(context.config, "learn", run_id=SECOND)
    check_arms(context)
    check_policies(context)
    check_the_pages_questions(context)

    drift = rows_of(context, "drift", "measure")
    assert drift[("items",)].value > 0.25  # rated: items 0 to 3; clicked: others
    assert drift[("kinds",)].value is None  # there were no events before
    assert drift[("new_items",)].n_now == len(log)
    assert drift[("new_users",)].value == pytest.approx(0.2, abs=0.03)  # a fifth has no rating

    # What follows: back to the lists without the fill, which the gate of the next run refuses; its own knew nothing.
    (decision,) = context.lake.read("next_run").collect()
    assert decision.action == "roll_back"
    assert "against arm popular" in decision.reason
    assert f"with fill {FILL} are worse" in decision.reason
    assert decision.reason in message
    for run_id in (FIRST, SECOND):
        frame = context.lake.frame("gate_decisions", [("none", "screen", *[0.0] * 9, 1, 1, True, "accepted", "")])
        context.lake.lake.replace("gate_decisions", frame, run_id)
    assert refused_by_feedback(gate_of(context, NEXT)).keys() == {FILL}
    assert refused_by_feedback(gate_of(context, SECOND)) == {}
    assert refused_by_feedback(gate_of(context, NEXT, cooldown=0)) == {}

    # Arms of the wrong size decide nothing.
    uneven = make_config(*SETTINGS, arms(0.5, 0.2, 0.3))
    with caplog.at_level(logging.WARNING, "ganrec"):
        run_alone(uneven, "learn", run_id=SECOND)
    assert "sample-ratio mismatch" in caplog.text
    assert context.lake.read("arm_differences").where("significant").count() == 0
    (decision,) = context.lake.read("next_run").collect()
    assert decision.action == "retrain"  # items have drifted
    assert "arms are not compared" in decision.reason
    assert refused_by_feedback(gate_of(context, NEXT)) == {}

    with pytest.raises(LakeError, match="expected lists of arms blend, plain, popular that were published in 1 days"):
        run_alone(make_config(*SETTINGS, EVEN, "learn.days=1"), "learn", run_id="2026-11-05")


def check_arms(context: Context) -> None:
    # A second implementation, in plain Python.
    expected = {arm: [0, 0] for arm in ARMS}
    for edition in EDITIONS[:2]:
        exposures, clicks = shown_and_clicked(*edition)
        for row in exposures:
            expected[str(row[4])][0] += 1
        for row in clicks:
            expected[arm_of(int(str(row[1])))][1] += 1
    metrics = rows_of(context, "feedback_metrics", "arm", "segment", "kind", "metric")
    for arm, (n, hits) in expected.items():
        rate = metrics[arm, "all", "click", "rate"]
        assert (rate.n_exposures, rate.n_users) == (n, sum(arm_of(u) == arm for u in range(USERS)))
        assert rate.value == pytest.approx(hits / n)
        assert metrics[arm, "all", "click", "value"].value == pytest.approx(2 * hits * 6 / n)
        assert metrics[arm, "all", "hide", "rate"].value == 0
        assert metrics[arm, "all", "hide", "rate"].ci_high > 0

    # The fill harms sparse users of its arm, in the second run alone.
    found = rows_of(context, "arm_differences", "lists", "arm", "control", "segment", "metric", "kind")
    harmed = found[f"fill:{FILL}", "blend", "plain", "sparse", "rate", "click"]
    mean = (UTILITY[0] + UTILITY[1] + np.linspace(1, 3, 8) @ UTILITY[2:10] / 16) / 3
    assert harmed.ci_low < (HARM - 1) * mean < harmed.ci_high < 0
    assert harmed.significant
    for key in (
        (f"fill:{FILL}", "blend", "plain", "dense"),
        ("earlier", "blend", "popular", "all"),
        ("all", "plain", "popular", "all"),
    ):
        same = found[(*key, "rate", "click")]
        assert same.ci_low < 0 < same.ci_high


def check_the_pages_questions(context: Context) -> None:
    """The queries of docs/the-loop.md, as they stand there."""
    page = (Path(__file__).parents[3] / "docs" / "the-loop.md").read_text().partition("## Three questions")[2]
    queries = re.findall(r"```sql\n(.*?)```", page.partition("\n## ")[0], re.DOTALL)
    catalog, namespace = context.lake.lake.name("next_run").split(".")[:2]
    before = context.spark.catalog.currentCatalog(), context.spark.catalog.currentDatabase()
    context.spark.sql(f"USE {catalog}.{namespace}")
    worth, helps, tonight = (context.spark.sql(query).collect() for query in queries)
    context.spark.sql(f"USE {'.'.join(before)}")
    found = {(row.arm, row.control): row for row in worth}
    assert found.keys() == {("blend", "plain"), ("blend", "popular"), ("plain", "popular")}
    assert found["blend", "popular"].more < 0
    assert found["blend", "popular"].at_least <= found["blend", "popular"].more <= found["blend", "popular"].at_most
    assert (helps[-1].fill, helps[-1].segment, helps[-1].significant) == (FILL, "sparse", True)
    assert {row.segment for row in helps} >= {"all", "sparse", "dense"}
    assert [row.action for row in tonight] == ["roll_back"]


def check_policies(context: Context) -> None:
    policies = rows_of(context, "policy_estimates", "policy", "fill", "estimator")
    for estimator in ("snips", "doubly_robust"):
        als, blend = policies["als", "none", estimator], policies["blend", FILL, estimator]
        discount = 1 - 0.2 * (1 - HARM) / 2  # of all exposures a fifth of the second run's are harmed
        assert als.ci_low < UTILITY[5] * discount < als.ci_high
        assert not als.caveat
        assert blend.ci_low < UTILITY[7] * (1 - 0.2 * (1 - HARM)) < blend.ci_high
        assert als.support_low < 1 < als.support_high
    assert (als.n_exposures, blend.n_exposures) == (2 * USERS, USERS)
    never = policies["popularity", "none", "snips"]
    assert (never.support, never.value) == (0.0, None)
    assert "100% of its choices could not have been drawn" in never.caveat
    assert ("trending", "none", "snips") not in policies  # it has no candidates


def gate_of(context: Context, run_id: str, cooldown: int = 7) -> Context:
    stage = STAGE_BY_NAME["gate"]
    staged = StageLake(context.lake.lake, run_id, "gate", None, stage.reads, stage.writes)
    config = with_values(context.config, {"gate.cooldown_runs": cooldown})
    return Context(context.spark, config, staged, run_id, None, "")
