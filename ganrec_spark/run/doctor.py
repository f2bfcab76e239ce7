"""`ganrec doctor`: what would stop a run or has damaged the lake, and what to do; `--repair` mends what it can.

Looks only, unless it repairs. Every finding says what was found and what to do.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyspark
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import GanrecError, LakeError
from ganrec_spark.lake.files import is_remote, lake_root, require_store
from ganrec_spark.lake.iceberg import reason
from ganrec_spark.lake.store import Lake
from ganrec_spark.raw.files import Files, located
from ganrec_spark.run import invariants
from ganrec_spark.run.invariants import Finding, Repair
from ganrec_spark.spark.executors import surroundings
from ganrec_spark.spark.session import build_session, require_known, spark_jars_dir

_LOOKS = (
    invariants.dictionaries,
    invariants.doubled_ratings,
    invariants.feedback_log,
    invariants.published,
    invariants.exposures,
    invariants.runs,
)
_JAVA = 17
_FREE_GIB = 5
_CLOCK_SECONDS = 60  # Iceberg refuses commits that are older than that
_GIB = 1 << 30
_SAME_PACKAGES = (
    "give them what the driver has: one image, a shared disk (spark.python), or an archive (spark.archives, `make "
    "package PACK=1` packs one without Torch); our package by spark.py_files"
)
# Bytes of text that a rating takes, and of heap that one takes while the gathered solvers work on it.
_BYTES_A_RATING, _HEAP_A_RATING = 25, 60


def examine(config: Config) -> tuple[list[Finding], list[Repair]]:
    """Return the findings on this machine, its Spark and the lake, and the repairs that would help.

    A session that cannot start, or a catalog that does not answer, is a finding like others.
    """
    findings = [*_machine(config)]
    if any(finding.level == "fail" for finding in findings):
        return findings, []
    try:
        spark = build_session(config, "ganrec doctor", makes_lake=False)
    except (GanrecError, Py4JError, PySparkException) as error:
        return [
            *findings,
            Finding("fail", "Spark", reason(error), "see spark.master and spark.properties"),
        ], []
    for part in (_executors, _source):
        try:
            findings += part(spark, config)
        except (GanrecError, Py4JError, PySparkException) as error:
            findings.append(Finding("fail", part.__name__.strip("_"), reason(error), "see the message"))
    ours = "{root}" in config.lake.properties.get("uri", "")  # else the catalog is a server's, which has to answer
    if ours and not is_remote(config.lake.root) and not Path(lake_root(config)).is_dir():
        return [*findings, Finding("ok", "lake", "none yet; the first run makes it")], []
    lake = Lake(spark, config.lake.catalog, config.lake.namespace)
    try:
        if not lake.exists():
            return [*findings, Finding("ok", "lake", "reachable and empty; the first run makes its tables")], []
        findings.append(_clock(lake))
        repairs: list[Repair] = []
        for look in _LOOKS:
            told, mended = look(lake)
            findings += told
            repairs += mended
    except (GanrecError, Py4JError, PySparkException) as error:
        words = reason(error)
        return [*findings, Finding("fail", "lake", words, "see lake.properties, and whether the catalog runs")], []
    return findings, repairs


def _machine(config: Config) -> Iterator[Finding]:
    yield _java()
    yield Finding("ok", "versions", f"Python {sys.version.split()[0]}, PySpark {pyspark.__version__}")
    missing = [
        package
        for package in config.spark.packages
        if not any(spark_jars_dir().glob(f"*{package.split(':')[1]}-{package.split(':')[2]}.jar"))
    ]
    for jar in spark_jars_dir().glob("*.jar"):
        try:
            require_known(jar)
        except GanrecError as error:
            yield Finding("fail", "jars", str(error))
    if missing and not config.spark.jars:
        yield Finding("warn", "jars", f"{', '.join(missing)} not beside Spark", "run `ganrec install-jars`")
    else:
        yield Finding("ok", "jars", "beside Spark" if not config.spark.jars else ", ".join(config.spark.jars))
    yield _root(config)


def _root(config: Config) -> Finding:
    if is_remote(config.lake.root):
        try:
            require_store(lake_root(config))
        except LakeError as error:
            return Finding("fail", "lake.root", str(error))
        return Finding("ok", "lake.root", f"{config.lake.root} answers")
    root = Path(lake_root(config))
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("fail", "lake.root", f"{existing} cannot be written", "set its owner, or another lake.root")
    free = shutil.disk_usage(existing).free / _GIB
    level, advice = ("ok", "") if free >= _FREE_GIB else ("warn", f"a run wants {_FREE_GIB} GiB and more; free some")
    return Finding(level, "lake.root", f"{root}, writable, {free:.1f} GiB free", advice)


def _java() -> Finding:
    home = os.environ.get("JAVA_HOME")
    binary = str(Path(home) / "bin" / "java") if home else "java"
    try:
        done = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        return Finding("fail", "Java", str(error), f"install Java {_JAVA} or newer, or set JAVA_HOME")
    version = re.search(r'version "(\d+)', done.stderr)
    if version is None or int(version[1]) < _JAVA:
        return Finding("fail", "Java", done.stderr.splitlines()[0], f"Spark 4 wants Java {_JAVA} or newer (JAVA_HOME)")
    return Finding("ok", "Java", done.stderr.splitlines()[0])


# Stages without the Transformer and the generators run without them.
_OF_TRAINING = {"torch", "horovod", "petastorm"}


def _executors(spark: SparkSession, config: Config) -> Iterator[Finding]:
    slots, workers = spark.sparkContext.defaultParallelism, config.distributed.workers
    if workers > 1 and slots < workers:
        yield Finding(
            "fail", "slots", f"{slots}, fewer than distributed.workers {workers}", "more cores, or fewer workers"
        )
    else:
        yield Finding("ok", "slots", f"{slots} for {workers} workers")

    try:
        found = surroundings(spark, config)
    except (Py4JError, PySparkException) as error:
        told = "Python" + str(error).rpartition("Python")[2].splitlines()[0] if "Python" in str(error) else "no answer"
        yield Finding("fail", "executors", told[:200], "give them the driver's Python (spark.python, spark.archives)")
        return
    words = [f"Python {', '.join(found.pythons)}", *found.different]
    words += [f"without {', '.join(found.missing)}"] if found.missing else []
    level = "fail" if set(found.missing) - _OF_TRAINING else "warn" if found.missing or found.different else "ok"
    yield Finding(level, "executors", "; ".join(words), "" if level == "ok" else _SAME_PACKAGES)


def _source(spark: SparkSession, config: Config) -> Iterator[Finding]:
    source = config.ingest.source
    if not source or config.ingest.format == "table":
        return
    try:
        with tempfile.TemporaryDirectory(prefix="ganrec-doctor-") as scratch:
            files = located(spark, source, Path(scratch))
            yield _size(spark, config, files)
    except (GanrecError, OSError, Py4JError, PySparkException) as error:
        yield Finding("fail", "ingest.source", reason(error))


def _size(spark: SparkSession, config: Config, files: Files) -> Finding:
    local = [Path(uri.removeprefix("file://")) for uri in files.uris if uri.startswith("file://")]
    size = sum(path.stat().st_size for path in local)
    if len(local) < len(files.uris):
        return Finding("ok", "ingest.source", f"{len(files.uris)} files")
    if all(path.suffix == ".parquet" for path in local):
        n_ratings = spark.read.option("__globPaths__", "false").parquet(*files.uris).count()
    else:
        n_ratings = size // _BYTES_A_RATING
    wanted = n_ratings * _HEAP_A_RATING / _GIB + 1
    memory = config.spark.driver_memory
    have = int(memory[:-1]) / (1 if memory[-1] == "g" else 1024)
    found = f"{len(files.uris)} files, {size / _GIB:.2f} GiB, about {n_ratings} ratings; spark.driver_memory {memory}"
    enough = have >= wanted
    advice = "" if enough else f"set spark.driver_memory to {wanted:.0f}g"
    return Finding("ok" if enough else "warn", "ingest.source", found, advice)


def _clock(lake: Lake) -> Finding:
    """Compare this machine's clock with the newest commit."""
    newest = lake.spark.table(f"{lake.name('stage_log')}.snapshots").agg(F.max("committed_at")).collect()[0][0]
    behind = 0.0 if newest is None else newest.replace(tzinfo=UTC).timestamp() - time.time()
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if behind > _CLOCK_SECONDS:
        advice = "set the clock (NTP): Iceberg refuses commits that are older than the last one"
        return Finding("fail", "clock", f"{now}, {behind:.0f} s behind the newest commit", advice)
    return Finding("ok", "clock", now)
