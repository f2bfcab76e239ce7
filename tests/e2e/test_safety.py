"""What a process leaves behind and shows to others: files, command lines, ports, and how it ends when it is told to."""

import shlex
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from e2e.lakeside import LOCAL, REPOSITORY, RUN_DATE, Lakeside

PASSWORD = "seen-by-nobody-4711"


def command_lines() -> str:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has ended meanwhile
    return "\n".join(found)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Give what all command lines of this machine showed while the block ran."""
    seen, ended = [], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            seen.append(command_lines())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def test_no_command_line_and_no_log_shows_the_catalogs_password(tmp_path: Path) -> None:
    catalog = {"ADDRESS": "127.0.0.1:1/nobody", "USER": "ganrec", "PASSWORD": PASSWORD}
    options = ("--config", str(REPOSITORY / "conf" / "cluster.yaml"), *LOCAL, "--set", "spark.py_files=[]")
    environment = {f"GANREC_CATALOG_{name}": value for name, value in catalog.items()}
    lakeside = Lakeside(tmp_path, tmp_path / "none.parquet", options, environment)
    with watched() as seen:
        done = lakeside.ganrec("publications")
    assert done.returncode == 4
    assert any("org.apache.spark.deploy.SparkSubmit" in lines for lines in seen), "the JVM was never seen"
    assert not any(PASSWORD in lines for lines in seen)
    assert PASSWORD not in done.stdout + done.stderr
    looked = lakeside.ganrec("doctor")
    assert looked.returncode == 4, "there is no lake yet, but its catalog has to answer"
    assert "see lake.properties, and whether the catalog runs" in looked.stdout
    told = lakeside.ganrec("sql").stdout
    assert PASSWORD not in told + looked.stdout + looked.stderr


@pytest.mark.parametrize("submitted", [False, True], ids=["ganrec", "spark-submit"])
def test_no_command_line_shows_a_secret_that_spark_has(tmp_path: Path, source: Path, submitted: bool) -> None:
    """Without the secret of spark.authenticate this master's executor would not be let in."""
    secrets = {"spark.authenticate.secret": "${GANREC_TEST_SECRET}", "spark.ssl.keyPassword": PASSWORD}
    secrets |= {"spark.authenticate": "true", "spark.hadoop.fs.s3a.secret.key": PASSWORD}
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"spark": {"master": "local-cluster[1,1,1024]", "properties": secrets}}))
    lakeside = Lakeside(tmp_path / "lake", source, ("--config", str(own)), {"GANREC_TEST_SECRET": PASSWORD})
    stage = ("--stage", "ingest", "--run-date", RUN_DATE)
    with watched() as seen:
        if submitted:
            words = shlex.split(lakeside.ganrec("submit", *stage).stdout)
            done = lakeside.run([str(Path(sys.executable).parent / "spark-submit"), *words[1:]])
        else:
            done = lakeside.ganrec("stage", *stage)
    assert done.returncode == 0, done.stderr[-3000:]
    assert any("CoarseGrainedExecutorBackend" in lines for lines in seen), "the executor was never seen"
    assert not any(PASSWORD in lines for lines in seen)
    assert PASSWORD not in done.stdout + done.stderr


def test_files_are_their_owners_and_reading_makes_no_lake(tmp_path: Path) -> None:
    source = tmp_path / "ratings.csv"
    source.write_text("user_id,item_id,rating,timestamp\n" + "".join(f"u{n % 9},i{n % 5},3,{n}\n" for n in range(45)))
    lakeside = Lakeside(tmp_path / "lake", source)
    assert lakeside.ganrec("publications").returncode == 4
    assert not lakeside.root.exists()
    assert lakeside.ganrec("doctor").returncode == 0
    assert lakeside.ganrec("look", str(source)).returncode == 0
    assert not lakeside.root.exists()
    done = lakeside.ganrec("stage", "--stage", "ingest", "--run-date", RUN_DATE)
    assert done.returncode == 0, done.stderr[-3000:]
    entries = [lakeside.root, *lakeside.root.rglob("*")]
    assert len(entries) > 20
    for entry in entries:
        mode = stat.S_IMODE(entry.stat().st_mode)
        assert mode & 0o077 == 0, f"{entry}: {mode:o}"
    for place, found in (("nowhere/metrics.json", "found none"), ("lake", "found that the file is a folder")):
        refused = lakeside.pipeline("--metrics-json", str(tmp_path / place))
        assert refused.returncode == 2
        assert f"expected a file in an existing folder, {found}" in refused.stderr
        assert "Spark" not in refused.stderr


@pytest.mark.faults
def test_sigterm_ends_a_run_within_ten_seconds_and_lets_it_go(tmp_path: Path, source: Path) -> None:
    """Three times, and each time the run goes on where it was; no sparse users, so that it soon trains networks."""
    lakeside = Lakeside(tmp_path / "lake", source)
    for moment in ("] ingest:", "] transformer_choose:", "sasrec_0: epoch 9/"):
        end_at(moment, lakeside)
        for _ in range(50):
            if str(tmp_path) not in command_lines():
                break
            time.sleep(0.2)
        assert str(tmp_path) not in command_lines(), "something was left running"
    again = lakeside.ganrec("stage", "--stage", "ingest", "--run-date", RUN_DATE)
    assert again.returncode == 0, again.stderr[-3000:]


def end_at(moment: str, lakeside: Lakeside) -> None:
    """Run the pipeline, and send SIGTERM a second after it has said so."""
    more = ("--set", "transformer.max_epochs=400", "--set", "transformer.patience=500")
    more = (*more, "--set", "sparsity.max_ratings=0")
    command = [sys.executable, "jobs/run_pipeline.py", "--run-date", RUN_DATE, "--verbose", *lakeside.settings(), *more]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    for line in process.stderr:
        if moment in line:
            break
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    code, seconds = process.wait(timeout=60), time.monotonic() - began
    rest = process.stderr.read()
    assert code == 143, rest[-3000:]
    assert seconds < 12
    assert "Traceback" not in rest
    assert "ganrec: ended by SIGTERM" in rest
