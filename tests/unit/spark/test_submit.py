"""What Spark is told about each stage, word by word, for a local master and for YARN."""

import json
from pathlib import Path

import pytest
import yaml

from ganrec_spark.cli.main import main
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


SECRETS = {
    "spark.authenticate.secret": "hunter2",
    "spark.ssl.keyPassword": "${SSL_PASSWORD}",
    "spark.hadoop.fs.s3a.secret.key": "hunter2",
    "spark.executorEnv.API_TOKEN": "hunter2",
}
# Where a secret is, and what checks it, is none.
REFERENCES = {
    "spark.kubernetes.driver.secretKeyRef.GANREC_CATALOG_PASSWORD": "ganrec-catalog:password",
    "spark.kubernetes.executor.secrets.ganrec": "/etc/secrets",
    "spark.kubernetes.authenticate.oauthTokenFile": "/var/run/token",
    "spark.hadoop.fs.s3a.aws.credentials.provider": "org.example.Provider",
    "spark.security.credentials.hive.enabled": "false",
}


@pytest.mark.parametrize("where", ["spark.properties", "spark.profiles.sql"])
def test_secrets_of_spark_stay_off_the_command_line_and_references_stand_there(where: str) -> None:
    found = words(f"{where}={json.dumps(SECRETS | REFERENCES)}", stage="ingest")
    assert not any(name in word or "hunter2" in word for word in found for name in SECRETS)
    assert {f"{key}={value}" for key, value in REFERENCES.items()} <= set(found)


@pytest.mark.parametrize(
    "key", ["spark.yarn.appMasterEnv.GANREC_CATALOG_PASSWORD", "spark.kubernetes.authenticate.submission.oauthToken"]
)
def test_a_secret_that_spark_submit_needs_by_itself_is_refused_with_a_way_out(key: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"spark\.properties\.{key}: expected no secret.*spark-defaults\.conf"
    ) as told:
        words(f"spark.properties={json.dumps({key: 'hunter2'})}")
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    "override",
    [
        "lake.properties={jdbc.password: hunter2}",
        "spark.properties={spark.authenticate.secret: hunter2}",
        "spark.profiles.training={spark.ssl.keyPassword: hunter2}",
        "ingest.pseudonym_salt=hunter2",
    ],
)
def test_a_printed_command_passes_no_secret_on(
    override: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--stage", "ingest", "--set", override]) == 2
    told = capsys.readouterr()
    assert "hunter2" not in told.out + told.err
    assert "write ${NAME}" in told.err
    assert main(["submit", "--stage", "ingest", "--set", override.replace("hunter2", "'${SECRET}'")]) == 0
    key, _, value = override.partition("=")
    section, _, name = key.partition(".")
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump({section: _nested(name, yaml.safe_load(value))}))
    assert main(["submit", "--stage", "ingest", "--config", str(file)]) == 0
    assert "hunter2" not in capsys.readouterr().out


def _nested(name: str, value: object) -> object:
    head, _, rest = name.partition(".")
    return {head: _nested(rest, value) if rest else value}
