"""A lake in an object store: the same tables as on a disk, whatever stumbles; and one line where the store is gone."""

import gzip
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from cluster.object_store import StumblingProxy, s3_server, spark_home, stumbling
from e2e.lakeside import LOCAL, REPOSITORY, RUN_DATE, Lakeside, described
from pyarrow import fs

from ganrec_spark.lake.files import delete_folder, exists, local_copies, mirrored, read_file, require_store, write_file
from ganrec_spark.spark.session import spark_jars_dir

Published = tuple[Lakeside, list[dict[str, object]], str]
SECRET = "a-key-for-nobodys-eyes"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDOFNOBODY", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "eu-central-1"}


@dataclass(frozen=True)
class Store:
    """A bucket `lakes` of a local S3 server, and Lakesides in it for processes with a Spark that knows S3."""

    port: int
    files: fs.S3FileSystem
    spark: Path

    def lakeside(self, name: str, folder: Path, url: str | None = None) -> Lakeside:
        catalog = f"jdbc:sqlite:file:{folder}/catalog.db?journal_mode=WAL&busy_timeout=30000"
        (folder / "scratch").mkdir(parents=True, exist_ok=True)
        properties = f"lake.properties={{uri: '{catalog}', jdbc.user: null, jdbc.password: null}}"
        environment = {
            **KEYS,
            "AWS_ENDPOINT_URL": url or f"http://127.0.0.1:{self.port}",
            "SPARK_HOME": str(self.spark),
            "TMPDIR": str(folder / "scratch"),
        }
        options = ("--config", str(REPOSITORY / "conf" / "s3.yaml"), "--set", properties, *LOCAL)
        return Lakeside(f"s3a://lakes/{name}", "s3a://lakes/ratings", options, environment)  # type: ignore[arg-type]

    def names(self, below: str) -> list[str]:
        found = self.files.get_file_info(fs.FileSelector(f"lakes/{below}", recursive=True, allow_not_found=True))
        return [info.path.removeprefix(f"lakes/{below}/") for info in found if info.type == fs.FileType.File]


_INSTALL = """
import sys
from ganrec_spark.config.load import load_config
from ganrec_spark.spark.session import install_jars
install_jars(load_config(sys.argv[1]))
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with s3_server() as port:
        files = fs.S3FileSystem(
            endpoint_override=f"http://127.0.0.1:{port}",
            region=KEYS["AWS_REGION"],
            access_key=KEYS["AWS_ACCESS_KEY_ID"],
            secret_key=SECRET,
            allow_bucket_creation=True,
        )
        files.create_dir("lakes")
        yield Store(port, files, tmp_path_factory.mktemp("s3") / "spark")


@pytest.fixture(scope="session")
def store(server: Store, source: Path) -> Store:
    """Return the store with ratings in it, and with a Spark into which `ganrec install-jars` has put what it needs."""
    with server.files.open_output_stream("lakes/ratings/part-0.parquet") as stream:
        stream.write(source.read_bytes())
    spark_home(server.spark, spark_jars_dir())
    lakeside = server.lakeside("none", server.spark.parent)
    done = lakeside.run([sys.executable, "-c", _INSTALL, str(REPOSITORY / "conf" / "s3.yaml")])
    assert done.returncode == 0, done.stderr[-3000:]
    assert len([jar for jar in (server.spark / "jars").iterdir() if not jar.is_symlink()]) == 3
    return server


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give this process the keys to the store, at the URL that it is then told."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return lambda url: monkeypatch.setenv("AWS_ENDPOINT_URL", url)


@pytest.mark.faults
def test_files_are_whole_through_a_store_that_stumbles(server: Store, here: Callable[[str], None]) -> None:
    content = os.urandom(3 << 20)  # which no name packs or unpacks
    with stumbling(server.port, every=6) as proxy:
        here(proxy.url)
        for number in range(4):
            file = f"s3a://lakes/files/{number}.gz"
            assert read_file(file) is None
            write_file(file, content)
            assert read_file(file) == content
        with local_copies([f"s3a://lakes/files/{number}.gz" for number in (2, 0)]) as copies:
            paths = [Path(copy.removeprefix("file://")) for copy in copies]
            assert [path.read_bytes() == content for path in paths] == [True, True]
        assert not any(path.exists() for path in paths)
        with mirrored("s3a://lakes/files/events") as mirror:
            (Path(mirror.local) / "events.1").write_bytes(b"one")
            mirror.copy()
            assert read_file("s3a://lakes/files/events/events.1") == b"one"
            (Path(mirror.local) / "events.1").write_bytes(b"one, two")
        assert read_file("s3a://lakes/files/events/events.1") == b"one, two"
        delete_folder("s3a://lakes/files")
        delete_folder("s3a://lakes/files")
        assert not exists("s3a://lakes/files/0.gz")
        assert min(proxy.stumbles.values()) > 2, proxy.stumbles


def test_a_store_that_cannot_be_used_is_told_with_its_reason(server: Store, here: Callable[[str], None]) -> None:
    here(f"http://127.0.0.1:{server.port}")
    require_store("s3a://lakes/wherever")
    with pytest.raises(Exception, match=r"no-such-bucket.*no such bucket"):
        require_store("s3a://no-such-bucket/lake")
    here("http://127.0.0.1:1")
    with pytest.raises(Exception, match=r"lets us in, found: .*onnect"):
        require_store("s3a://lakes/lake")


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_killed_and_stumbling_a_run_ends_in_the_same_tables_as_on_a_disk(
    published: Published, store: Store, tmp_path: Path
) -> None:
    with stumbling(store.port) as proxy:
        lakeside = store.lakeside("lake", tmp_path, proxy.url)
        lakeside = replace(lakeside, options=(*lakeside.options, *described(published[0].source)))
        _kill_in_training(store, lakeside, tmp_path / "said")
        after_kill = store.lakeside("lake", tmp_path / "again", proxy.url)
        lakeside = replace(lakeside, environment={**lakeside.environment, "TMPDIR": after_kill.environment["TMPDIR"]})
        done = lakeside.pipeline()
        assert done.returncode == 0, done.stderr[-6000:]
        assert ": kept in" in done.stderr
        assert "Traceback" not in done.stderr
        assert min(proxy.stumbles.values()) > 10, proxy.stumbles
    calm = store.lakeside("lake", tmp_path)
    assert calm.digests() == published[0].digests()
    names = store.names("lake")
    assert f"reports/{RUN_DATE}.html" in names
    for stage in ("train_generator", "transformer_choose", "transformer_final"):
        assert any(name.startswith(f"runs/{RUN_DATE}/{stage}/tensorboard/") for name in names), stage
    assert [name for name in names if "/checkpoints/" in name] == []
    assert list((tmp_path / "again" / "scratch").iterdir()) == [], "nothing stays on this machine"
    doctor = calm.ganrec("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert "lake.root: s3a://lakes/lake answers" in doctor.stdout
    assert f"published: run {RUN_DATE}" in doctor.stdout


def _kill_in_training(store: Store, lakeside: Lakeside, said: Path) -> None:
    """Kill the driver and all that it started once a checkpoint of the generators lies in the bucket."""
    command = [sys.executable, "jobs/run_pipeline.py", "--run-date", RUN_DATE, *lakeside.settings()]
    with said.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=lakeside.surroundings(), stderr=stream, start_new_session=True
        )
    folder, seen = f"lake/runs/{RUN_DATE}/train_generator/checkpoints", ""
    while not store.names(folder):
        assert process.poll() is None, said.read_text()[-6000:]
        seen = seen or next((line for line in _command_lines() if lakeside.environment["SPARK_HOME"] in line), "")
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    psutil.wait_procs(family, timeout=60)
    assert "fs.s3a.path.style.access" in seen
    assert SECRET not in seen
    assert KEYS["AWS_ACCESS_KEY_ID"] not in seen


def _command_lines() -> list[str]:
    return [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_store_that_goes_for_good_ends_the_run_with_one_line(store: Store, tmp_path: Path) -> None:
    with stumbling(store.port, every=1_000_000) as proxy:
        lakeside = store.lakeside("gone", tmp_path, proxy.url)
        hasty = "spark.properties={spark.hadoop.fs.s3a.retry.limit: '1', spark.hadoop.fs.s3a.attempts.maximum: '1'}"
        options = [*lakeside.settings(), "--set", hasty]
        command = [sys.executable, "jobs/run_pipeline.py", "--run-date", RUN_DATE, "--verbose", *options]
        with (tmp_path / "said").open("w") as said:
            process = subprocess.Popen(command, cwd=REPOSITORY, env=lakeside.surroundings(), stderr=said)
            while "] split: " not in (tmp_path / "said").read_text():
                assert process.poll() is None, (tmp_path / "said").read_text()[-3000:]
                time.sleep(0.1)
            _close(proxy)
            assert process.wait(timeout=1200) == 4, (tmp_path / "said").read_text()[-3000:]
    told = (tmp_path / "said").read_text()
    assert "Traceback" not in told
    assert "stage 'split': the object store does not answer" in told.splitlines()[-1]


def _close(proxy: StumblingProxy) -> None:
    """Refuse connections, and break those that are open at their next request."""
    proxy.target = 1
    threading.Thread(target=proxy.shutdown).start()
    proxy.socket.close()


@pytest.mark.timeout(1800)
def test_before_a_run_a_store_that_does_not_answer_is_one_line_and_so_says_the_doctor(
    store: Store, tmp_path: Path
) -> None:
    lakeside = store.lakeside("lake", tmp_path, "http://127.0.0.1:1")
    for done in (lakeside.pipeline(), lakeside.ganrec("publications")):
        assert done.returncode == 4, done.stderr[-3000:]
        assert "Traceback" not in done.stderr
        assert "lake.root 's3a://lakes/lake': expected a store that answers" in done.stderr.splitlines()[-1]
    doctor = lakeside.ganrec("doctor")
    assert doctor.returncode == 4
    assert "fail  lake.root" in doctor.stdout
    assert SECRET not in doctor.stdout + doctor.stderr


@pytest.mark.timeout(1800)
def test_a_stream_goes_on_from_its_checkpoint_in_the_store(store: Store, tmp_path: Path) -> None:
    lakeside, said = store.lakeside("streamed", tmp_path), tmp_path / "said"
    command = [sys.executable, "-m", "ganrec_spark.cli", "stream", "s3a://lakes/events", *lakeside.settings()]
    ends = (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM)
    for number, end in enumerate(ends):
        with store.files.open_output_stream(f"lakes/events/{number}.csv") as stream:
            stream.write(f"user_id,item_id,kind,timestamp\nu{number},i1,click,2026-11-01 12:00:00\n".encode())
        scratch = tmp_path / f"scratch{number}"
        scratch.mkdir()
        environment = {**lakeside.surroundings(), "TMPDIR": str(scratch)}
        with said.open("w") as log:
            process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log)
        while "1 new events" not in said.read_text():
            assert process.poll() is None, said.read_text()[-3000:]
            time.sleep(0.2)
        process.send_signal(end)
        assert process.wait(timeout=300) == (0 if end == signal.SIGTERM else -end), said.read_text()[-3000:]
        assert end == signal.SIGKILL or list(scratch.iterdir()) == [], "nothing stays on this machine"
    # Only the batch that was killed may have come again, and then it was known.
    sums = re.search(r"ended after \d batches: (\d) rows read, 1 new events .*, (\d) duplicates", said.read_text())
    assert sums is not None, said.read_text()[-3000:]
    assert int(sums[1]) == 1 + int(sums[2]) <= 2
    assert any("/commits/" in name for name in store.names("streamed/streams"))


_STATES = """
import sys
from ganrec_spark.config.load import load_config
from ganrec_spark.lake.files import write_file
from ganrec_spark.spark.session import build_session
from ganrec_spark.raw.files import first_bytes, located
from ganrec_spark.raw.state import source_state
spark = build_session(load_config(sys.argv[1], sys.argv[2:]), makes_lake=False)
sources = ("s3a://lakes/in", "s3a://lakes/in/*/a.csv.gz", "s3a://lakes/in/day=1/a.csv.gz")
def states(): return [source_state(spark, [source]) for source in sources]
one = states()
assert one == states()
files = located(spark, sources[0])
print(files.uris, files.parts, first_bytes(spark, files.uris[0], 7))
write_file(sources[2], open(sys.argv[-1].partition("=")[2], "rb").read())
two = states()
assert all(old != new for old, new in zip(one, two)), (one, two)
print("changed by content alone")
spark.sparkContext.setCheckpointDir("s3a://lakes/mllib")
print(spark.range(5).checkpoint().count(), "rows in a checkpoint such as MLlib's")
"""


@pytest.mark.timeout(1800)
def test_sources_in_a_store_are_found_read_and_known_again(store: Store, tmp_path: Path) -> None:
    one, two = (gzip.compress(text, mtime=0) for text in (b"user_id,item_id\nu1,i1\n", b"user_id,item_id\nu1,i2\n"))
    assert len(one) == len(two)
    with store.files.open_output_stream("lakes/in/day=1/a.csv.gz", compression=None) as stream:
        stream.write(one)
    (tmp_path / "two").write_bytes(two)
    lakeside = store.lakeside("none", tmp_path)
    options = lakeside.settings()
    overrides = [after for before, after in itertools.pairwise(options) if before == "--set"]
    command = [sys.executable, "-c", _STATES, str(REPOSITORY / "conf" / "s3.yaml"), *overrides]
    done = lakeside.run([*command, f"ingest.test_source={tmp_path / 'two'}"])
    assert done.returncode == 0, done.stderr[-3000:]
    assert "('s3a://lakes/in/day=1/a.csv.gz',) ('day',) b'user_id'" in done.stdout
    assert "changed by content alone" in done.stdout
    assert "5 rows in a checkpoint" in done.stdout
    assert store.names("mllib") != []
