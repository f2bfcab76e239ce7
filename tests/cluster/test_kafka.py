"""A stream from a real broker of Kafka: each event once, whoever is killed, stopped or sends what is no event."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from cluster.broker import Broker, broker
from cluster.services import free_port
from e2e.lakeside import JAVA, REPOSITORY
from pyspark.sql import SparkSession

from ganrec_spark.config.load import load_config
from ganrec_spark.feedback.kafka import with_kafka
from ganrec_spark.lake.store import Lake
from ganrec_spark.run import invariants
from ganrec_spark.spark.session import build_session

YESTERDAY = int(time.time()) - 86_400
_NUMBER = itertools.count()
KILLS = int(os.environ.get("GANREC_KILLS", "5"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker(tmp_path_factory.mktemp("kafka")) as one:
        yield one


@pytest.fixture(scope="module")
def spark(running: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    options = (
        f"lake.root={tmp_path_factory.mktemp('lake')}",
        "spark.master=local[1]",
        "spark.driver_memory=1g",
        f"spark.properties={{spark.driver.extraJavaOptions: {JAVA}}}",
    )
    session = build_session(with_kafka(load_config(overrides=options, environ={})))
    yield session
    session.stop()


class Topic:
    """A topic of two partitions, a lake of its own, and streams that are processes."""

    def __init__(self, spark: SparkSession, running: Broker, folder: Path) -> None:
        number = next(_NUMBER)
        self.name, self.broker, self._spark, self._said = f"events{number}", running, spark, folder / "said"
        root = str(spark.conf.get("spark.sql.catalog.lake.warehouse")).rpartition("/")[0]
        self.config = load_config(overrides=[f"lake.root={root}", f"lake.namespace=kafka{number}"], environ={})
        self.lake = Lake(spark, "lake", f"kafka{number}")
        self.streams: list[subprocess.Popen[bytes]] = []
        self._admin(
            lambda client, jvm: (
                client.createTopics(_list(jvm, jvm.org.apache.kafka.clients.admin.NewTopic(self.name, 2, 1)))
                .all()
                .get()
            )
        )

    def _admin(self, act: Callable[[Any, Any], object]) -> None:
        jvm: Any = self._spark._jvm
        settings = jvm.java.util.HashMap()
        settings.put("bootstrap.servers", self.broker.address)
        client = jvm.org.apache.kafka.clients.admin.AdminClient.create(settings)
        try:
            act(client, jvm)
        finally:
            client.close()

    def send(self, messages: Sequence[bytes | None]) -> None:
        rows = [(number % 2, message) for number, message in enumerate(messages)]
        frame = self._spark.createDataFrame(rows, "partition int, value binary")
        options = {"kafka.bootstrap.servers": self.broker.address, "topic": self.name}
        frame.write.format("kafka").options(**options, **{"kafka.max.request.size": str(20 << 20)}).save()

    def begin(self, *more: str, source: str | None = None) -> "subprocess.Popen[bytes]":
        settings = {
            "lake.root": self.config.lake.root,
            "lake.namespace": self.config.lake.namespace,
            "spark.master": "local[2]",
            "spark.driver_memory": "1g",
            "spark.properties": f"{{spark.driver.extraJavaOptions: {JAVA}}}",
            "stream.trigger_seconds": "0.0",
        }
        words = [f"{key}={value}" for key, value in settings.items()] + list(more)
        source = source or f"kafka://{self.broker.address}/{self.name}"
        command = [sys.executable, "-m", "ganrec_spark.cli", "stream", source]
        with self._said.open("ab") as said:
            process = subprocess.Popen(
                [*command, *(word for setting in words for word in ("--set", setting))],
                cwd=REPOSITORY,
                env={**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY)},
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self.streams.append(process)
        return process

    def said(self) -> str:
        return self._said.read_text(errors="replace")

    def wait_for(self, sign: str, process: "subprocess.Popen[bytes]", seconds: float = 180, times: int = 1) -> None:
        deadline = time.monotonic() + seconds
        while self.said().count(sign) < times:
            assert process.poll() is None, self.said()[-5000:]
            assert time.monotonic() < deadline, f"{sign}: {self.said()[-5000:]}"
            time.sleep(0.1)

    def wait_for_events(self, count: int, process: "subprocess.Popen[bytes]", seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while self.lake.read_all("feedback_events").count() < count:
            assert process.poll() is None, self.said()[-5000:]
            assert time.monotonic() < deadline, self.said()[-5000:]
            time.sleep(0.5)

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """End the stream as its users do; it ends after its batch, with 0."""
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=90) == 0, self.said()[-5000:]
        assert "Traceback" not in self.said()

    def ids(self) -> list[str]:
        return sorted(row.event_id for row in self.lake.read_all("feedback_events").collect())


def _list(jvm: Any, *things: object) -> Any:
    found = jvm.java.util.ArrayList()
    for thing in things:
        found.add(thing)
    return found


@pytest.fixture
def topic(spark: SparkSession, running: Broker, tmp_path: Path) -> Iterator[Topic]:
    one = Topic(spark, running, tmp_path)
    yield one
    for process in one.streams:
        if process.poll() is None:
            kill(process)


def messages(numbers: range) -> list[bytes]:
    rows = [{"event_id": f"e{n}", "user_id": f"u{n % 50}", "item_id": n % 7, "kind": "click"} for n in numbers]
    return [json.dumps({**row, "timestamp": YESTERDAY - number}).encode() for number, row in enumerate(rows)]


def names(numbers: range) -> list[str]:
    return sorted(f"e{n}" for n in numbers)


def kill(process: "subprocess.Popen[bytes]") -> None:
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    psutil.wait_procs(family, timeout=60)


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_poison_is_quarantined_with_topic_partition_and_offset(topic: Topic) -> None:
    nested = b'{"user_id": ' + b"[" * 20_000 + b"]" * 20_000 + b', "item_id": "i"}'
    poison: list[bytes | None] = [
        b"\xff\xfe\x00\x80" * 10,
        b"no json",
        None,
        b"",
        b'{"user_id": "' + b"x" * (5 << 20) + b'", "item_id": "i", "kind": "click", "timestamp": "2026-11-20"}',
        nested,
        b'{"user_id": {"id": 1}, "item_id": "i", "kind": "click", "timestamp": "2026-11-20"}',
        b'{"user_id": "u\xff", "item_id": "i", "kind": "click", "timestamp": "2026-11-20"}',
        b'[{"user_id": "u1"}]',
        b'{"user_id": "u1", "item_id": "i"}{"user_id": "u2", "item_id": "i"}',
        b'{"user_id": "u1", "item_id": "i", "kind": "click", "timestamp": 1e400}',
        b"17",
        b'{"user_id": "u1", "n": ' + b"7" * 5000 + b"} {}",
    ]
    topic.send([*messages(range(20)), *poison, *messages(range(20, 40))])
    process = topic.begin()
    topic.wait_for("batch 0: ", process)
    topic.end(process)
    assert topic.ids() == names(range(40))
    rows = topic.lake.read_all("rejected_feedback").collect()
    rules = {(row.source.split(", ")[1], int(row.source.split(" ")[-1])): row.rule for row in rows}
    # Of what is alike, here two empty messages, the quarantine has one row, as of files.
    assert sorted(rules.values()) == sorted(["malformed_row"] * 9 + ["oversized_id", "bad_encoding", "bad_time"]), (
        topic.said()
    )
    at = {(f"partition {number % 2}", 10 + number // 2): number for number in range(len(poison))}
    by_number = {at[place]: rule for place, rule in rules.items()}
    assert (by_number[4], by_number[7], by_number[10]) == ("oversized_id", "bad_encoding", "bad_time")
    assert all(row.source.startswith(f"topic {topic.name}, partition ") for row in rows)
    assert invariants.feedback_log(topic.lake)[0][0].level == "ok"
    assert "53 rows read, 40 new events" in topic.said()


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_killed_at_random_moments_each_event_is_there_once(topic: Topic) -> None:
    chance, sent = random.Random(27), 0
    more = ("stream.max_messages=60",)
    for _ in range(KILLS):
        topic.send(messages(range(sent, sent + 200)))
        sent += 200
        process = topic.begin(*more)
        batches = topic.said().count("batch ")
        topic.wait_for("batch ", process, times=batches + 1)
        time.sleep(chance.uniform(0, 4))
        kill(process)
    process = topic.begin(*more)
    topic.wait_for_events(sent, process, seconds=600)
    topic.end(process)
    assert topic.ids() == names(range(sent))
    assert invariants.feedback_log(topic.lake)[0][0].level == "ok"
    assert [finding.level for finding in invariants.dictionaries(topic.lake)[0]] == ["ok", "ok"]
    assert topic.lake.read_all("rejected_feedback").count() == 0


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_a_broker_that_is_killed_stopped_and_started_again_is_survived(topic: Topic) -> None:
    topic.send(messages(range(20)))
    hasty = "stream.options={kafka.default.api.timeout.ms: '4000', kafka.request.timeout.ms: '3000'}"
    process = topic.begin("stream.max_messages=10", hasty)
    topic.wait_for("batch 0: ", process)
    topic.broker.kill()
    topic.wait_for("was away: going on when it is back", process)
    topic.wait_for("the broker does not answer", process)
    topic.broker.start()
    topic.send(messages(range(20, 40)))
    topic.wait_for_events(40, process)
    topic.broker.stop()
    time.sleep(3)
    topic.broker.start()
    topic.send(messages(range(40, 60)))
    topic.wait_for_events(60, process)
    topic.end(process)
    assert topic.ids() == names(range(60))


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_broker_that_is_never_there_and_a_topic_that_is_not_are_one_error_each(topic: Topic) -> None:
    begun = time.monotonic()
    for source, sign in (
        (f"kafka://127.0.0.1:{free_port()}/events", "expected a broker of Kafka that answers within 5 s"),
        (f"kafka://{topic.broker.address}/nothing", "expected these topics, found none"),
    ):
        process = topic.begin("stream.wait_seconds=5.0", source=source)
        assert process.wait(timeout=120) == 3, topic.said()
        assert sign in topic.said().splitlines()[-1]
    assert "Traceback" not in topic.said()
    assert time.monotonic() - begun < 120


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_broker_that_stays_away_ends_the_stream(topic: Topic) -> None:
    topic.send(messages(range(20)))
    process = topic.begin("stream.wait_seconds=20.0")
    topic.wait_for("batch 0: ", process)
    topic.broker.kill()
    try:
        assert process.wait(timeout=180) == 3, topic.said()
        assert "expected a broker of Kafka that answers" in topic.said().splitlines()[-1]
        assert "Traceback" not in topic.said()
    finally:
        topic.broker.start()
    assert topic.ids() == names(range(20))
