"""Events come in batch after batch: a stream that goes on where it was, whatever ended it and whoever was away.

A batch is taken by the function that takes files (feedback.log). Spark writes down in the checkpoint which part of the
source a batch is before it begins, and that it is done after its end. Whoever dies in between repeats the batch, and
what the log has by then is a duplicate: each event once, by the log's keys and not by the checkpoint's.
"""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import GanrecError, LakeError
from ganrec_spark.feedback.log import CLOCK_BACK, NOTHING, Taken
from ganrec_spark.lake.files import lake_root
from ganrec_spark.lake.store import Lake

# What is done after a batch's events are in the log: with the lake and what became of the batch; returns words for the
# batch's line. A batch may come again, with its events as duplicates: a step looks at the tables, and changes nothing
# where it has been already.
Step = Callable[[Lake, Config, Taken], str]
_POLL_SECONDS, _AGAIN_SECONDS = 0.2, 2.0
_WELL_SECONDS = 120.0  # longer than it takes to find that a source is away
_GRACE_SECONDS = 10.0  # for what is no batch, as asking the broker what is new, once the stream is to end
_LOG = logging.getLogger("ganrec")
# What the checkpoint's logs, a folder's list of files and a start at the same moment say of a second stream.
_OF_TWO = ("CONCURRENT_STREAM_LOG_UPDATE", "Multiple streaming jobs detected", "Multiple streaming queries are")
# Spark tells a failure with its trace before we can say it in a line.
_SILENT = ("org.apache.spark.sql.execution.streaming", "org.apache.spark.sql.kafka010", "org.apache.kafka")


class EventSource(Protocol):
    """Where events come from: feedback.folder, feedback.kafka."""

    @property
    def name(self) -> str:
        """Return what the source is called in messages; the checkpoint is the name's."""

    def wait(self, spark: SparkSession, seconds: float, ended: Callable[[], bool]) -> None:
        """Return when the source is there, or when `ended`. Raises InputError where it is not there in time."""

    def opened(self, spark: SparkSession, limits: Config) -> DataFrame:
        """Return the stream."""

    def take(self, lake: Lake, config: Config, frame: DataFrame) -> tuple[Taken, datetime | None]:
        """Append a batch's events; return the counts, and since when the oldest has waited."""

    def is_away(self, failure: str) -> bool:
        """Whether the text of a failure says that the source was not there, so that waiting may help."""

    def explained(self, failure: str, checkpoint: str) -> GanrecError | None:
        """Return what the text of a failure means, where there is something to do about it."""


class Streaming:
    """The events of one source on their way into one lake."""

    def __init__(
        self, config: Config, source: EventSource, then: Sequence[Step] = (), ended: Callable[[], bool] = lambda: False
    ) -> None:
        self._config, self._source, self._then, self._ended = config, source, then, ended
        self._failure: BaseException | None = None
        self._busy = False
        self.batches, self.taken = 0, NOTHING

    @property
    def checkpoint(self) -> str:
        """The folder that says how far the stream has come: one for each source and namespace, in the lake's root."""
        name = self._source.name
        words = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[-60:].strip("-")
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        return f"{lake_root(self._config)}/streams/{self._config.lake.namespace}/{words}-{digest}"

    def run(self, spark: SparkSession) -> None:
        """Take batches until `ended`; then the batch that is under way is the last one.

        Where the source is away it is waited for, stream.wait_seconds at most and in all until it is well again. Raises
        InputError where it stays away, what append_events raises, LakeError where another stream has the checkpoint, or
        where this machine's clock is set back: Spark would begin no batch until it is as late again as it was.
        """
        _silence(spark)
        left = wait = self._config.stream.wait_seconds
        away_since: float | None = None
        while not self._ended():
            self._source.wait(spark, left, self._ended)
            begun, batches = time.monotonic(), self.batches
            failure = self._until_failure(spark)
            if failure is None:
                return
            text, now = str(failure), time.monotonic()
            if away_since is None or self.batches > batches or now - begun > _WELL_SECONDS:
                away_since = now
            left = wait - (now - away_since)
            if left <= 0 or not self._source.is_away(text):
                raise self._meaning(text) or failure
            _LOG.info("%s was away: going on when it is back", self._source.name)
            time.sleep(_AGAIN_SECONDS)

    def _until_failure(self, spark: SparkSession) -> BaseException | None:
        """Run one query until `ended`, or until it fails; return the failure."""
        self._failure, lake = None, None

        def take(frame: DataFrame, number: int) -> None:
            nonlocal lake
            if self._ended():
                raise _EndedError
            lake = lake or Lake(frame.sparkSession, self._config.lake.catalog, self._config.lake.namespace)
            self._take(lake, frame, number)

        writer = self._source.opened(spark, self._config).writeStream.foreachBatch(take)
        writer = writer.option("checkpointLocation", self.checkpoint)
        try:
            query = writer.trigger(processingTime=f"{self._config.stream.trigger_seconds} seconds").start()
        except Py4JJavaError as error:  # the checkpoint, which is made then, may be another's at the same moment
            failure: BaseException = error
            return failure
        worked, ahead = time.monotonic(), _ahead()
        try:
            while query.isActive:
                if self._busy or not self._ended():
                    worked = time.monotonic()
                elif not query.status["isTriggerActive"] or time.monotonic() - worked > _GRACE_SECONDS:
                    break
                ahead = max(ahead, _ahead())
                if not self._busy:
                    _require_clock(ahead - _ahead())
                time.sleep(_POLL_SECONDS)
        finally:
            failed = None if query.isActive else query.exception()
            query.stop()
        return self._failure or (None if self._ended() else failed)

    def _take(self, lake: Lake, frame: DataFrame, number: int) -> None:
        self._busy, begun = True, time.monotonic()
        try:
            taken, oldest = self._source.take(lake, self._config, frame)
            told = [step(lake, self._config, taken) for step in self._then]
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._busy = False
        self.batches, self.taken = self.batches + 1, self.taken + taken
        lag = [] if oldest is None else [f"lag {max(0.0, (_now() - oldest).total_seconds()):.1f} s"]
        words = [taken.in_words(), *told, f"{time.monotonic() - begun:.1f} s", *lag]
        _LOG.info("batch %d: %s", number, "; ".join(words))
        if taken.read and taken.read == sum(taken.rejected.values()):
            _LOG.warning(
                "batch %d: every row was rejected; look at table rejected_feedback, and at section feedback", number
            )

    def _meaning(self, failure: str) -> GanrecError | None:
        if any(sign in failure for sign in _OF_TWO):
            return LakeError(
                f"checkpoint '{self.checkpoint}': expected one stream of this source, found that another one writes "
                "there; let one run"
            )
        return self._source.explained(failure, self.checkpoint)


class _EndedError(Exception):
    """The stream is to end before this batch, which the next stream takes."""


def _now() -> datetime:
    """Return the time as Spark's rows have it: UTC, without saying so (build_session sets the process's zone)."""
    return datetime.now(UTC).replace(tzinfo=None)


def _ahead() -> float:
    """Return by how many seconds the time of day is ahead of a clock that nobody sets."""
    return time.time() - time.monotonic()


def _require_clock(back: float) -> None:
    if back > CLOCK_BACK.total_seconds():
        raise LakeError(
            f"this machine's clock: expected it to go on, found it set back by {back:.0f} s; nothing more was taken: "
            "set it (NTP) and start the stream again, which goes on where it was"
        )


def _silence(spark: SparkSession) -> None:
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    jvm: Any = spark._jvm
    log4j = jvm.org.apache.logging.log4j
    for name in _SILENT:
        log4j.core.config.Configurator.setLevel(name, log4j.Level.OFF)
