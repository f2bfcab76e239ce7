"""What Spark is told about each stage, word by word, for a local master and for YARN."""

import json

import pytest

from ganrec_spark.config.load import load_config
from ganrec_spark.errors import ConfigError
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.spark.submit import stage_properties, submit_command


def words(*overrides: str, stage: str = "transformer_final") -> list[str]:
    config = load_config(overrides=overrides, environ={})
    return submit_command(config, STAGE_BY_NAME[stage], "2026-11-01", ["--config", "cluster.yaml"])


def test_local_command_word_by_word() -> None:
    assert words(stage="ingest") == [
        "spark-submit", "--name", "ganrec ingest 2026-11-01", "--conf", "spark.driver.memory=3g",
        "jobs/run_stage.py", "--stage", "ingest", "--run-date", "2026-11-01", "--config", "cluster.yaml",
    ]  # fmt: skip


def test_yarn_command_ships_package_and_environment() -> None:
    found = words(
        "spark.master=yarn",
        "spark.py_files=[dist/ganrec_spark.zip]",
        "spark.archives=['dist/environment.tar.gz#environment']",
        "spark.python=./environment/bin/python",
        "spark.properties={spark.submit.deployMode: cluster}",
    )
    assert found[3:5] == ["--master", "yarn"]
    assert found[5:9] == ["--py-files", "dist/ganrec_spark.zip", "--archives", "dist/environment.tar.gz#environment"]
    assert "spark.submit.deployMode=cluster" in found
    assert "spark.pyspark.python=./environment/bin/python" in found
    assert "spark.dynamicAllocation.enabled=false" in found


def test_gpus_go_to_training_alone() -> None:
    gpu = json.dumps({"spark.task.resource.gpu.amount": "1", "spark.dynamicAllocation.enabled": "false"})
    settings = (f"spark.profiles.training={gpu}", "spark.properties={spark.dynamicAllocation.enabled: 'true'}")
    assert "spark.task.resource.gpu.amount=1" in words(*settings)
    assert "spark.dynamicAllocation.enabled=false" in words(*settings)
    for stage in ("ingest", "als_final"):
        assert "spark.task.resource.gpu.amount=1" not in words(*settings, stage=stage)
        assert "spark.dynamicAllocation.enabled=true" in words(*settings, stage=stage)


def test_unknown_profile_is_named() -> None:
    with pytest.raises(ConfigError, match="profile 'gpu'"):
        stage_properties(load_config(environ={}), "gpu")


def test_passwords_stay_off_the_command_line() -> None:
    found = words("lake.properties={type: jdbc, uri: 'jdbc:postgresql://db/lake', jdbc.password: '${SECRET}'}")
    assert not any("SECRET" in word or "jdbc" in word for word in found)
