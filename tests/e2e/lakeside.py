"""Whole pipelines, run as their users run them: each in processes of its own, on a world small enough for minutes."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parents[2]
RUN_DATE = "2026-11-01"
# Small networks and few epochs: what is proved here does not depend on quality.
FAST = (
    "spark.driver_memory=2g",
    "generator.kinds=[vae, cgan]",
    "generator.epochs=2",
    "generator.min_steps_per_epoch=1",
    "augment.strategies=[{how: top, n: 1}, {how: sample, n: 3}]",
    "gate.finalists=1",
    "gate.bootstrap_samples=200",
    "als.embedding_size=[8]",
    "als.iterations=3",
    "als.regularisation=[0.2]",
    "als.rating_scale=[raw]",
    "item_item.method=ease",
    "item_item.ease_regularisation=[50.0]",
    "transformer.models=1",
    "transformer.max_epochs=2",
    "transformer.min_steps_per_epoch=1",
    "transformer.validate_every=1",
    "transformer.embedding_size=16",
    "recommend.n_candidates=30",
    "recommend.rerank_min_hits=20",
    "recommend.rerank_trees=20",
)


# A JVM that lives for seconds does not repay the optimising compiler's work. Without that compiler Java keeps 48 MiB
# for compiled code; a whole run makes 63, and what finds no room ends the run.
JAVA = "'-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC'"
LOCAL = ("--set", "spark.master=local[2]", "--set", f"spark.properties={{spark.driver.extraJavaOptions: {JAVA}}}")


def described(source: Path) -> tuple[str, ...]:
    """Return options that tell of the users and items of a world (raw.world.write_world) what beside it is written."""
    ratings = pq.read_table(source)
    options = []
    for kind, texts in (("user", ("group", "a|b")), ("item", ("genres", "war|love"))):
        ids, file = sorted(set(ratings[f"{kind}_id"].to_pylist())), source.with_name(f"{kind}s.csv")
        rows = [f"{one},{texts[1] if place % 2 else texts[1][0]},{place}\n" for place, one in enumerate(ids)]
        file.write_text(f"{kind}_id,{texts[0]},number\n" + "".join(rows))
        options += ["--set", f"ingest.{kind}s_source={file}"]
    return tuple(options)


@dataclass(frozen=True)
class Lakeside:
    """A lake folder and the ratings that go into it; runs our commands on them, where `options` say."""

    root: Path
    source: Path
    options: tuple[str, ...] = LOCAL
    environment: dict[str, str] = field(default_factory=dict)

    def settings(self) -> list[str]:
        overrides = [*FAST, f"lake.root={self.root}", f"ingest.source={self.source}"]
        return [*(word for override in overrides for word in ("--set", override)), *self.options]

    def pipeline(self, *more: str, run_date: str = RUN_DATE) -> subprocess.CompletedProcess[str]:
        return self.run([sys.executable, "jobs/run_pipeline.py", "--run-date", run_date, *self.settings(), *more])

    def recorded(self, record: Path, *more: str) -> subprocess.CompletedProcess[str]:
        """Run the whole pipeline as `pipeline` does, and write down what each stage used (recorded.py)."""
        command = [sys.executable, "tests/e2e/recorded.py", str(record), "jobs/run_pipeline.py"]
        return self.run([*command, "--run-date", RUN_DATE, *self.settings(), *more])

    def ganrec(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        return self.run([sys.executable, "-m", "ganrec_spark.cli", command, *self.settings(), *more])

    def digests(self, run_date: str = RUN_DATE) -> dict[str, str]:
        """Return table name -> content hash of the run's rows."""
        done = self.ganrec("digest", "--run-date", run_date)
        assert done.returncode == 0, done.stderr
        return {name: digest for digest, name in (line.split() for line in done.stdout.splitlines())}

    def state(self) -> dict[str, str]:
        """Return table or view -> the file that says what readers see of it; of all but the log of stages."""
        with closing(sqlite3.connect(f"file:{self.root / 'catalog.db'}?mode=ro", uri=True)) as connection:
            found = dict(connection.execute("SELECT table_name, metadata_location FROM iceberg_tables"))
        del found["stage_log"]
        assert "current_run" in found
        return found

    def run(self, command: list[str], timeout: float = 800) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env=self.surroundings(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def surroundings(self) -> dict[str, str]:
        python = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
        return {**os.environ, **python, **self.environment}
