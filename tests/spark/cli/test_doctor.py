"""The doctor finds what damages a lake, and mends what can be mended."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from spark.dictionaries import add_ids

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import LakeError
from ganrec_spark.lake.iceberg import change_properties
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.run_id import RunId
from ganrec_spark.raw.look import look
from ganrec_spark.run import doctor, signs
from ganrec_spark.run.doctor import Finding
from ganrec_spark.run.log import RunLog

HEADER = "user_id,item_id,rating,timestamp\n"
RUNS = ("2026-11-01", "2026-11-02")
AS_OF = RunId.parse(RUNS[0]).as_of(None)


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.level for finding in findings}


@pytest.fixture
def examined(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Return doctor.examine, in the session of the tests."""
    monkeypatch.setattr(doctor, "build_session", lambda *_, **__: spark)
    return doctor.examine


@pytest.fixture
def config(make_config: Callable[..., Config], tmp_path: Path) -> Config:
    (tmp_path / "a.csv").write_text(HEADER + "".join(f"u{n % 7},i{n % 5},3,{n}\n" for n in range(35)))
    return make_config(f"ingest.source={tmp_path / 'a.csv'}")


def test_a_new_lake_is_fine_and_looking_makes_no_table(examined: Callable, config: Config, lake: Lake) -> None:
    findings, repairs = examined(config)
    assert {finding.level for finding in findings} == {"ok"}
    assert levels(findings)["lake"] == "ok"
    assert not lake.exists()
    assert repairs == []


def test_shared_indices_are_found_mended_and_every_run_begins_again(
    examined: Callable, config: Config, run_stages, lake: Lake
) -> None:
    for run_id in RUNS:
        run_stages(config, "ingest", "split", run_id=run_id)
    # As two ingests at once left it in earlier versions: an index for two ids, an id with two indices.
    users = lake.read_all("users")
    strangers = users.where("user_idx < 3").withColumn("user_id", F.concat(F.lit("stranger"), "user_idx"))
    twice = users.where("user_id = 'u6'").withColumn("user_idx", F.lit(100))
    add_ids(lake, "users", strangers.union(twice).withColumn("first_run_id", F.lit(RUNS[1])).localCheckpoint())
    before = {row.user_id: row.user_idx for row in users.where("user_idx < 7").collect() if row.user_id[0] == "u"}
    with pytest.raises(LakeError, match="ganrec doctor"):
        run_stages(config, "ingest", run_id=RUNS[1])
    findings, repairs = examined(config)
    assert levels(findings)["users"] == "fail"
    assert "1 ids with several indices, 3 indices with several ids" in str(findings)
    assert "roll back" in str(findings)
    (repair,) = repairs
    repair.do()
    after = {row.user_id: row.user_idx for row in lake.read_all("users").collect()}
    assert {name: after[name] for name in before} == before, "who was there first keeps the number"
    assert len(after) == len(before) + 3
    assert len(set(after.values())) == len(after)
    findings, repairs = examined(config)
    assert levels(findings)["users"] == "ok"
    assert repairs == []
    for run_id in RUNS:
        with pytest.raises(LakeError, match="run stage 'ingest' first"):
            run_stages(config, "split", run_id=run_id)
        run_stages(config, "ingest", "split", run_id=run_id)


def test_doubled_ratings_dead_runs_and_a_pointer_into_nothing(
    examined: Callable, config: Config, run_stages, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stages(config, "ingest")
    lake.replace("ratings", lake.read("ratings", RUNS[0]).union(lake.read("ratings", RUNS[0])), RUNS[0])
    lake.point_to(RUNS[0], "gone", lake.published())
    with monkeypatch.context() as patch:
        patch.setattr(signs, "this_process", lambda: "other-host/ns/77/1")
        RunLog(lake, RUNS[1]).begin("split", lambda _: "f")
    name = f"{signs.SIGN_OF_LIFE}{RUNS[1]}.other-host/ns/77/1"
    change_properties(lake.spark, lake.name("stage_log"), {name: "1000"})
    monkeypatch.setattr(signs, "LEASE_SECONDS", 0)
    findings, repairs = examined(config)
    found = {finding.name: finding for finding in findings}
    assert "35 in run 2026-11-01" in found["ratings"].found
    assert found["published"].level == "fail"
    assert "readers see nothing" in found["published"].found
    assert found[f"run {RUNS[1]}"].level == "warn"
    (repair,) = repairs
    repair.do()
    assert examined(config)[1] == []


def test_a_clock_behind_the_lake_too_few_slots_and_a_missing_source(
    examined: Callable, make_config, config: Config, run_stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stages(config, "ingest")
    now = doctor.time.time()
    monkeypatch.setattr(doctor.time, "time", lambda: now - 3600)
    found = levels(examined(make_config("ingest.source=/nowhere.csv", "distributed.workers=9"))[0])
    assert {name for name, level in found.items() if level == "fail"} == {"clock", "slots", "ingest.source"}


def test_executors_whose_python_lacks_packages_or_has_others_are_found(
    examined: Callable,
    config: Config,
    make_config,
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tasks run in a real Python without our packages, and with another version of one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    monkeypatch.setattr(spark.sparkContext, "pythonExec", str(tmp_path / "bare" / "bin" / "python"))
    (packages,) = (tmp_path / "bare").glob("lib/python3*/site-packages")
    (packages / "numpy-1.0.dist-info").mkdir()
    (packages / "numpy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")
    found = {finding.name: finding for finding in examined(config)[0]}["executors"]
    assert found.level == "fail"
    assert f"numpy 1.0 (driver {version('numpy')})" in found.found
    assert "without pandas, pyarrow, pydantic, pyyaml, scipy, lightgbm, threadpoolctl, torch" in found.found
    assert "horovod" not in found.found, "one worker trains on the driver"
    assert "spark.archives" in found.advice
    found = {finding.name: finding for finding in examined(make_config("distributed.workers=2"))[0]}["executors"]
    assert "torch, horovod, petastorm" in found.found
    neither = ("distributed.workers=2", "distributed.launcher=torchrun", "distributed.reader=pyarrow")
    found = {finding.name: finding for finding in examined(make_config(*neither))[0]}["executors"]
    assert "torch" in found.found
    assert not {"horovod", "petastorm"} & set(found.found.split(", "))


def test_look_says_what_low_ratings_may_mean(spark: SparkSession, make_config, tmp_path: Path) -> None:
    def told(values: list[float], *overrides: str) -> str:
        rows = [f"u{n},i{n},{value},{1_700_000_000 + n}" for n, value in enumerate(values)]
        (tmp_path / "rated.csv").write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]))
        return "\n".join(look(spark, make_config(*overrides), str(tmp_path / "rated.csv"), AS_OF))

    stars = told([1, 2, 2, 3, 4, 5, 5])
    assert "where those below 3, 3 here, mean dislike: --set ingest.liked_from=3" in stars
    assert "unrated" not in stars
    assert "3 ratings below 2.5 are dislikes" in told([1, 2, 2, 3], "ingest.liked_from=2.5")
    votes = told([-5.5, 3, 0, -1], "ingest.rating_min=-10")
    assert "2 ratings below 0 are dislikes (ingest.liked_from)" in votes
    assert "3 ratings are 0; where that means not rated: --set ingest.unrated=0" in told([0, 0, 0, 8, 9, 10])
    for plain in ([1, 1, 1], [0, 1, 1], [1, 20, 300]):
        assert "dislike" not in told(plain)


FILES = [
    ("userId,movieId,rating,timestamp\n" + "".join(f"{n},{n % 7},4.5,{1_700_000_000 + n}\n" for n in range(40)), 40),
    ("".join(f"{n}\ti{n % 7}\t{n % 5}\t{1_700_000_000 + n}\n" for n in range(40)), 40),
    ("timestamp,visitorid,event,itemid,transactionid\n"
     + "".join(f"{1_700_000_000_000 + n},{n},{'view' if n % 3 else 'addtocart'},{n % 7},\n" for n in range(40)), 40),
    ("".join(f"{n},2014-04-07T10:51:{n:02}.277Z,i{n % 7},0\n" for n in range(40)), 40),
    ("t_dat,customer_id,article_id,price\n"
     + "".join(f"2023-11-{n % 28 + 1:02},{n},0{n % 7},.5\n" for n in range(40)), 40),
]  # fmt: skip


@pytest.mark.parametrize(("text", "valid"), FILES, ids=["movielens", "u.data", "events", "clicks", "purchases"])
def test_what_look_advises_is_what_ingest_takes(
    spark: SparkSession, make_config, run_stages, tmp_path: Path, text: str, valid: int
) -> None:
    (tmp_path / "some file.csv").write_text(text)
    told = look(spark, make_config(), str(tmp_path / "some file.csv"), AS_OF)
    assert any(re.search(rf"of the first 40 rows {valid} are valid: 40 users, 7 items", line) for line in told), told
    words = [word for word in shlex.split(told[-1]) if word != "--set"]
    (outcome,) = run_stages(make_config(*words), "ingest")
    assert f"40 rows read, {valid} ratings, 0 rejected" in outcome.message
