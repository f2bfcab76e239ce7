"""What a session shows of secrets, where it listens, and which jars it trusts."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import ConfigError, LakeError
from ganrec_spark.spark.session import (
    _SHA256,
    _addresses,
    _master,
    catalog_properties,
    require_known,
    spark_jars_dir,
    spark_sql_command,
)

REPOSITORY = Path(__file__).resolve().parents[3]
PASSWORD = "p\"a$$w`o\\rd ${NOT} it's"


def _name(package: str) -> str:
    return package.split(":", 1)[1].replace(":", "-")


def config(*overrides: str) -> Config:
    return load_config(overrides=overrides, environ={})


def test_the_sql_command_keeps_words_whole_and_secrets_off_command_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    told = spark_sql_command(
        config("lake.root=/a b/$c`d`", "lake.properties={jdbc.password: '${GANREC_PW}', jdbc.user: '${GANREC_USER}'}"),
        " -e \"SELECT 'x'\"",
    )
    binary = re.search(r"\S*/spark-sql", told)[0]  # type: ignore[index]
    script = (
        'show() { while [ $# -gt 0 ]; do if [ "$1" = --properties-file ]; then shift; stat -c "MODE %a" "$1"; '
        'sed "s/^/FILE /" "$1"; echo "NAME $1"; else echo "WORD $1"; fi; shift; done; }; '
        + told.replace(binary, "show")
    )
    environment = {"GANREC_PW": PASSWORD, "GANREC_USER": "bob", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=True)
    lines = done.stdout.splitlines()
    assert f"FILE spark.sql.catalog.lake.jdbc.password {PASSWORD}" in lines
    assert "FILE spark.sql.catalog.lake.jdbc.user bob" in lines
    assert "MODE 600" in lines
    (name,) = [line.removeprefix("NAME ") for line in lines if line.startswith("NAME ")]
    assert not Path(name).exists(), "the file is gone at the end"
    assert lines[-1] == "WORD SELECT 'x'"
    assert "WORD spark.sql.catalog.lake.warehouse=/a b/$c`d`/warehouse" in lines
    assert "WORD spark.sql.catalog.lake.cache-enabled=false" in lines
    assert not any(PASSWORD in line for line in lines if line.startswith("WORD"))


def test_a_local_run_listens_on_this_machine_alone() -> None:
    for master in ("spark.master=null", "spark.master=local[2]"):
        assert _addresses(config(master), submitted=False)["spark.driver.bindAddress"] == "127.0.0.1"
    assert _addresses(config("spark.master=spark://host:7077"), False) == {"spark.driver.bindAddress": "0.0.0.0"}
    assert _addresses(config(), submitted=True) == {"spark.driver.bindAddress": "0.0.0.0"}


@pytest.mark.parametrize(
    ("root", "master", "expected"),
    [
        ("lake", "local[2]", "local[2]"),
        ("s3a://bucket/lake", "local[2]", "local[2,4]"),
        ("s3a://bucket/lake", "null", "local[*,4]"),
        ("s3a://bucket/lake", "local[2,1]", "local[2,1]"),
        ("s3a://bucket/lake", "spark://host:7077", "spark://host:7077"),
    ],
)
def test_a_local_task_has_more_attempts_where_the_lake_is_in_a_store(root: str, master: str, expected: str) -> None:
    assert _master(config(f"lake.root={root}", f"spark.master={master}"), submitted=False) == expected


def test_a_catalog_of_sqlite_cannot_lie_in_a_store() -> None:
    with pytest.raises(ConfigError, match=r"lake.properties.uri: .*s3a://bucket/lake.*SQLite needs a disk"):
        catalog_properties(config("lake.root=s3a://bucket/lake"))


def test_a_jar_that_is_not_what_was_pinned_is_refused(tmp_path: Path) -> None:
    store = load_config(REPOSITORY / "conf" / "s3.yaml", environ={}).spark.packages
    assert store[:3] == Config().spark.packages
    packages = (*store, *Config().stream.packages)
    assert set(_SHA256) == {_name(package) for package in packages}, "a new version of a package needs its hash"
    pinned = {_name(package) for package in Config().spark.packages}
    installed = [
        jar for jar in spark_jars_dir().glob("*.jar") if any(jar.name.endswith(f"{name}.jar") for name in pinned)
    ]
    assert len(installed) == len(pinned)
    for jar in installed:
        require_known(jar)
    small = min(installed, key=lambda jar: jar.stat().st_size)
    copy = tmp_path / small.name
    shutil.copyfile(small, copy)
    with copy.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(LakeError, match="expected SHA-256"):
        require_known(copy)
    (tmp_path / "other-1.0.jar").write_bytes(b"")
    require_known(tmp_path / "other-1.0.jar")
