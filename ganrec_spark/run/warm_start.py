"""Which published run a stage may go on from instead of beginning anew (docs/adr/0045)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.lake.publication import published_before
from ganrec_spark.lake.store import Lake
from ganrec_spark.run.context import Context

DECISION = "fine_tune"
# What goes on has to reach so much of the validation NDCG@10 that it comes from (docs/adr/0045).
LEAST_SHARE = 0.98
_MOST_KNOWN = 0.01  # of held-out ratings: a few may have been rated again


@dataclass(frozen=True)
class Base:
    """The run to go on from and the execution of the same stage there; None: begin anew.

    `why` says in words why somebody who asked for it does not get it.
    """

    run_id: str | None = None
    execution: str = ""
    why: str = ""


def base_of(lake: Lake, decisions: DataFrame, when: str, stage: str, run_id: str) -> Base:
    """Return what `stage` of this run may go on from: the run published last of those before this one.

    So it stays the same when this run is published, however often it runs again. `decisions`: table next_run of all
    runs; `when`: warm_start.when. Nobody asked where what was learnt of that run is not fine_tune, or nothing was.
    """
    if when == "never":
        return Base()
    decided = {str(row.run_id) for row in decisions.where(F.col("action") == DECISION).select("run_id").collect()}
    if when == "decided" and not decided:
        return Base()
    before = published_before(lake, run_id)
    if when == "decided" and (before is None or before.run_id not in decided):
        return Base()
    if before is None:
        return Base(why="no earlier run is published")
    done = lake.read("stage_log", before.run_id).where((F.col("stage") == stage) & (F.col("outcome") == "done")).first()
    if done is None:
        return Base(why=f"stage {stage} of run {before.run_id} is not finished")
    return Base(before.run_id, str(done.execution))


def own_base(context: Context) -> Base:
    """Return `base_of` for the stage that the context is of."""
    decisions = context.lake.read_runs("next_run")
    return base_of(context.lake.lake, decisions, context.config.warm_start.when, context.lake.stage, context.run_id)


def told_apart(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Return in words in which of its keys `found` is another one: `alpha 60, expected 20`; empty: in none."""
    other = {key: value for key, value in found.items() if value != expected[key]}
    return "; ".join(f"{key} {value}, expected {expected[key]}" for key, value in other.items())


def cannot_judge(context: Context, base: str) -> str:
    """Return in words why validation ratings cannot judge models that go on from those of phase choose of run `base`.

    There are none; or that run was trained on too many of them, as it is where shares are held out at random, and would
    know the answers. Empty: they can.
    """
    held = context.lake.read("validation_ratings").select("user_idx", "item_idx")
    known = context.lake.read_runs("train_ratings").where(F.col("run_id") == base)
    n, n_known = held.count(), held.join(known, ["user_idx", "item_idx"], "left_semi").count()
    if not n:
        return "no validation rating says what helps"
    if n_known <= _MOST_KNOWN * n:
        return ""
    return f"run {base} was trained on {n_known} of the {n} validation ratings"
