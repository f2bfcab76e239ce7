"""What a stage is given: Spark, its configuration sections, its view of the lake, its seed."""

import logging
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import SparkSession

from ganrec_spark.config.sections import Config
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.plan.run_id import RunId


@dataclass(frozen=True)
class Context:
    """The surroundings of one stage of one run.

    `config` holds the user's values in the sections that the stage declared and defaults elsewhere, so that an
    undeclared key cannot change a result. `work_dir` is a folder or URI under lake.root for files that are no
    tables: training checkpoints, logs of TensorBoard, the report.
    """

    spark: SparkSession
    config: Config
    lake: StageLake
    run_id: str
    phase: str | None
    work_dir: str

    @property
    def as_of(self) -> datetime:
        """The moment that the run stands at, UTC: what happened from then on is not yet known."""
        return RunId.parse(self.run_id).as_of(self.config.run.as_of)

    @property
    def seed(self) -> int:
        """The run's seed; mix in stage and user with seeding.stable_seed."""
        return self.config.run.seed

    def log(self, message: str) -> None:
        """Write one line of detail: what was tried, how far the work is."""
        logging.getLogger("ganrec").debug("%s: %s", self.lake.stage, message)

    def warn(self, message: str) -> None:
        """Write one line that somebody should read."""
        logging.getLogger("ganrec").warning("%s: %s", self.lake.stage, message)
