"""Topics of Kafka as a source of events: their address, what Spark's source is told, whether the broker is there."""

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.load import from_environment
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import ConfigError, GanrecError, InputError, LakeError
from ganrec_spark.feedback.log import Taken, append_events, frame_rows
from ganrec_spark.feedback.rules import wanted_columns
from ganrec_spark.lake.iceberg import causes, reason
from ganrec_spark.lake.store import Lake
from ganrec_spark.raw.json_files import json_messages

SCHEME = "kafka://"
_ADDRESS = re.compile(r"kafka://(?P<servers>[^/,\s]+:\d+(?:,[^/,\s]+:\d+)*)/(?P<topics>[\w.-]+(?:,[\w.-]+)*)/?")
_FROM = "_topic_partition_offset"
# By themselves Kafka's clients wait for minutes, and so would whoever asked the stream to end.
_PATIENCE = {
    "kafka.request.timeout.ms": "10000",
    "kafka.default.api.timeout.ms": "15000",
    "kafkaConsumer.pollTimeoutMs": "30000",
}
_PROBE = {"request.timeout.ms": "4000", "default.api.timeout.ms": "5000"}
_PAUSE_SECONDS = 1.0
# What the jars of Spark ask for, and Spark has.
_THERE = "org.apache.hadoop:*"
_AWAY = (
    "org.apache.kafka.common.errors.",
    "Cannot fetch record for offset",
    "No resolvable bootstrap urls",
    "Failed to create new KafkaAdminClient",
)
_LOST = "KAFKA_DATA_LOSS"
_REFUSED = ("Authentication", "Authorization")
_NO_TOPIC = ("UnknownTopicOrPartition", "InvalidTopic")
_LOG = logging.getLogger("ganrec")


@dataclass(frozen=True)
class Kafka:
    """Topics, comma-separated, of the cluster that `servers`, host:port and comma-separated, belong to."""

    servers: str
    topics: str
    options: Mapping[str, str]

    @classmethod
    def at(cls, address: str, config: Config) -> "Kafka":
        """Return the topics at kafka://HOST:PORT[,...]/TOPIC[,...]. Raises ConfigError for what is no such address."""
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise ConfigError(f"source '{address}': expected kafka://HOST:PORT/TOPIC; write it so, with the port")
        given = config.stream.options
        filled = {key: from_environment(f"stream.options.{key}", value) for key, value in given.items()}
        wanted, optional = wanted_columns(config.feedback)
        if places := [role for role, key in (wanted | optional).items() if isinstance(key, int)]:
            raise ConfigError(
                f"feedback.columns.{places[0]}: expected the key of a JSON object, as messages of Kafka are, found a "
                "position; name the key"
            )
        return cls(found["servers"], found["topics"], filled)

    @property
    def name(self) -> str:
        """The address."""
        return f"{SCHEME}{self.servers}/{self.topics}"

    def wait(self, spark: SparkSession, seconds: float, ended: Callable[[], bool]) -> None:
        """Return when the broker answers, or when `ended`.

        Raises InputError where it does not within `seconds`, refuses us or has no such topic, ConfigError for options
        that Kafka does not take, LakeError where Kafka's classes are missing.
        """
        _require_classes(spark)
        end, told = time.monotonic() + seconds, False
        while (missing := self._missing(spark)) is not None and not ended():
            if time.monotonic() >= end:
                raise InputError(
                    f"source '{self.name}': expected a broker of Kafka that answers within {seconds:g} s, found: "
                    f"{missing}; see the address, the network and stream.options, or raise stream.wait_seconds"
                )
            if not told:
                _LOG.info("%s: the broker does not answer; trying for %g s", self.name, seconds)
                told = True
            time.sleep(_PAUSE_SECONDS)

    def opened(self, spark: SparkSession, limits: Config) -> DataFrame:
        """Return the stream of messages, from the earliest one on where there is no checkpoint."""
        own = {
            "kafka.bootstrap.servers": self.servers,
            "subscribe": self.topics,
            "startingOffsets": "earliest",
            "maxOffsetsPerTrigger": str(limits.stream.max_messages),
        }
        frame = spark.readStream.format("kafka").options(**{**_PATIENCE, **own, **self.options}).load()
        return frame.select("value", "timestamp", "topic", "partition", "offset")

    def take(self, lake: Lake, config: Config, frame: DataFrame) -> tuple[Taken, datetime | None]:
        """Append the events of a batch of messages; return the counts, and when its oldest message was sent."""
        wanted, optional = wanted_columns(config.feedback)
        names = list(dict.fromkeys(str(name) for name in (*wanted.values(), *optional.values())))
        frame = frame.persist()
        try:
            sent = frame.agg(F.min("timestamp")).collect()[0][0]
            origin = F.format_string("topic %s, partition %d, offset %d", "topic", "partition", "offset")
            ids = [str(wanted[role]) for role in ("user", "item")]
            rows = json_messages(frame.withColumn(_FROM, origin), names, ids, [_FROM])
            return append_events(lake, config, frame_rows(rows, config, self.name, _FROM)), sent
        finally:
            frame.unpersist()

    def is_away(self, failure: str) -> bool:
        """Whether the text of a failure says that the broker was not there, so that waiting may help."""
        return _LOST not in failure and any(sign in failure for sign in _AWAY)

    def explained(self, failure: str, checkpoint: str) -> GanrecError | None:
        """Return what the text of a failure means, where there is something to do about it."""
        if _LOST not in failure:
            return None
        return InputError(
            f"source '{self.name}': expected the messages after those of the last batch, found that they are gone "
            f"(retention, or the topic was made anew); to go on with what is there delete {checkpoint}: what the log "
            "has is not taken twice"
        )

    def _missing(self, spark: SparkSession) -> str | None:
        """Return why the broker cannot be asked about the topics, None where it can."""
        jvm: Any = spark._jvm
        settings = {
            key.removeprefix("kafka."): value for key, value in self.options.items() if key.startswith("kafka.")
        }
        properties = jvm.java.util.HashMap()
        for key, value in {**settings, **_PROBE, "bootstrap.servers": self.servers}.items():
            properties.put(key, value)
        topics = jvm.java.util.ArrayList()
        for topic in self.topics.split(","):
            topics.add(topic)
        try:
            client = jvm.org.apache.kafka.clients.admin.AdminClient.create(properties)
            try:
                client.describeTopics(topics).allTopicNames().get()
            finally:
                client.close(jvm.java.time.Duration.ofSeconds(1))
        except Py4JJavaError as error:
            return self._judged(error)
        return None

    def _judged(self, error: Py4JJavaError) -> str:
        """Return the reason of a failed question where waiting may help; raise what else it means."""
        names, why = " ".join(name for name, _ in causes(error)), reason(error)
        if any(sign in names for sign in _NO_TOPIC):
            raise InputError(f"source '{self.name}': expected these topics, found none; make them, or see the name")
        if any(sign in names for sign in _REFUSED):
            raise InputError(f"source '{self.name}': expected to be let in, found: {why}; see stream.options")
        if "ConfigException" in names and "bootstrap" not in why:
            raise ConfigError(f"stream.options: expected what Kafka's clients take, found: {why}; mend it")
        return why


def with_kafka(config: Config) -> Config:
    """Return the configuration of a session that loads Spark's Kafka source, too."""
    spark = config.spark
    excluded = ",".join(filter(None, (spark.properties.get("spark.jars.excludes"), _THERE)))
    changed = {
        "packages": (*spark.packages, *config.stream.packages),
        "properties": {**spark.properties, "spark.jars.excludes": excluded},
    }
    return config.model_copy(update={"spark": spark.model_copy(update=changed)})


def _require_classes(spark: SparkSession) -> None:
    jvm: Any = spark._jvm
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    try:
        for name in ("org.apache.kafka.clients.admin.AdminClient", "org.apache.spark.sql.kafka010.KafkaSourceProvider"):
            jvm.java.lang.Class.forName(name, True, loader)
    except Py4JJavaError as error:
        raise LakeError(
            f"Spark: expected the classes of stream.packages on its class path, found no {reason(error)}. Run "
            "`ganrec install-jars --kafka` once for this Spark, or name the jars in spark.jars"
        ) from None
