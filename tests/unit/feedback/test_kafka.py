"""Addresses of Kafka, and what a session that reads it is told."""

import pytest

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import ConfigError
from ganrec_spark.feedback.kafka import Kafka, with_kafka


def test_an_address_has_brokers_with_ports_and_topics() -> None:
    found = Kafka.at("kafka://a:9092,b.example:9093/clicks,views.v1", Config())
    assert (found.servers, found.topics) == ("a:9092,b.example:9093", "clicks,views.v1")
    assert found.name == "kafka://a:9092,b.example:9093/clicks,views.v1"
    for wrong in ("kafka://a/clicks", "kafka://a:9092", "kafka://a:9092/", "kafka://a:9092/a/b", "kafka:///clicks"):
        with pytest.raises(ConfigError, match="expected kafka://HOST:PORT/TOPIC"):
            Kafka.at(wrong, Config())


def test_options_come_from_the_environment_and_keys_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_LOGIN", "a=b")
    options = "stream.options={kafka.security.protocol: SASL_SSL, kafka.sasl.jaas.config: '${KAFKA_LOGIN}'}"
    found = Kafka.at("kafka://a:9092/clicks", load_config(overrides=[options], environ={}))
    assert found.options == {"kafka.security.protocol": "SASL_SSL", "kafka.sasl.jaas.config": "a=b"}
    with pytest.raises(ConfigError, match=r"feedback.columns.user: .* name the key"):
        Kafka.at("kafka://a:9092/clicks", load_config(overrides=["feedback.columns.user=1"], environ={}))


def test_a_session_for_kafka_loads_its_packages_beside_the_others() -> None:
    own = "spark.properties={spark.jars.excludes: 'a:b'}"
    config = with_kafka(load_config(overrides=[own], environ={}))
    assert config.spark.packages == (*Config().spark.packages, *Config().stream.packages)
    assert config.spark.properties["spark.jars.excludes"] == "a:b,org.apache.hadoop:*"
    assert Config().spark.packages == load_config(environ={}).spark.packages


def test_what_waiting_may_mend_is_told_from_what_is_lost() -> None:
    topic = Kafka.at("kafka://a:9092/clicks", Config())
    assert topic.is_away("Caused by: org.apache.kafka.common.errors.TimeoutException: Timed out waiting for a node")
    lost = "KafkaIllegalStateException: [KAFKA_DATA_LOSS.X] org.apache.kafka.common.errors.OffsetOutOfRangeException"
    assert not topic.is_away(lost)
    assert "delete lake/streams/x" in str(topic.explained(lost, "lake/streams/x"))
    assert not topic.is_away("java.io.IOException: No space left on device")
    assert topic.explained("No space left on device", "x") is None
