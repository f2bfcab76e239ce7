"""What a stage reads that no stage of its run writes, as a text that changes with it: part of its fingerprint."""

from pyspark.sql import functions as F

from ganrec_spark.config.sections import Config
from ganrec_spark.lake.events import state
from ganrec_spark.lake.publication import content_hash, earlier_runs
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import LOOP_STAGES
from ganrec_spark.plan.run_id import RunId
from ganrec_spark.plan.stage import Stage
from ganrec_spark.raw.state import source_state
from ganrec_spark.run.warm_start import base_of


def outside(lake: Lake, config: Config, stage: Stage, run_id: str) -> str:
    """Return the state of files, of tables of others, of the log of events, and of what earlier runs left."""
    files = {
        "ingest": (config.ingest.source, config.ingest.test_source),
        "attributes": (*config.ingest.users_source, *config.ingest.items_source, *config.ingest.other_ratings.values()),
        "recommend": config.rules.sources,
    }
    found = [source_state(lake.spark, files.get(stage.name, ()))]
    tired = stage.name == "recommend" and config.rules.shown_times is not None
    if tired or (stage.name == "ingest" and config.feedback.as_ratings):
        # Events of later dates change nothing of this one.
        before = F.col("ts") < F.lit(RunId.parse(run_id).as_of(config.run.as_of))
        found.append(state(lake, "feedback_events", before))
    if tired:
        own = RunId.parse(run_id)
        shown = {
            (one.run_id, part) for one in lake.publications() if RunId.parse(one.run_id) < own for part in one.parts
        }
        found.append(str(sorted(shown)))
    learnt = {table for one in LOOP_STAGES for table in one.writes} & set(stage.reads)
    if "next_run" in learnt:  # only the decision counts, and what is gone on from by it
        learnt -= {"next_run"}
        base = base_of(lake, lake.read_all("next_run"), config.warm_start.when, stage.name, run_id)
        found.append(f"{base.run_id} {base.execution}")
    if learnt:
        found.append(content_hash({name: earlier_runs(lake.read_all(name), run_id) for name in learnt}))
    return " ".join(found)
