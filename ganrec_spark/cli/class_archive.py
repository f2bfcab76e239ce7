"""Write a class-data archive beside Spark: JVMs that map it (submit.java_options) start in half the time.

A stage submitted on its own pays for a JVM that loads and verifies some 20,000 classes. Java can keep them loaded in a
file (AppCDS, JEP 350), bound to the same Java and the same jars; where either differs Java ignores the file.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from ganrec_spark.spark.submit import ARCHIVE, QUIET


def write_archive(spark_home: Path) -> Path:
    """Run a few stages on a tiny world and keep the classes that they loaded; return the file."""
    partial, archive = spark_home / f".{ARCHIVE}", spark_home / ARCHIVE
    archive.unlink(missing_ok=True)
    partial.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", __name__, folder, str(partial)], check=True, capture_output=True)
    return partial.rename(archive)


def _load_classes(folder: str, archive: str) -> None:
    from ganrec_spark.config.load import load_config
    from ganrec_spark.plan.pipeline import STAGES
    from ganrec_spark.raw.world import write_world
    from ganrec_spark.run.runner import run_stage
    from ganrec_spark.spark.session import build_session

    source = Path(folder) / "ratings.parquet"
    write_world(source, users=50, items=30)
    options = f"{{spark.driver.extraJavaOptions: '-XX:ArchiveClassesAtExit={archive} {QUIET}'}}"
    fixed = [
        f"lake.root={folder}/lake",
        f"ingest.source={source}",
        "spark.master=local[2]",
        f"spark.properties={options}",
    ]
    config = load_config(overrides=fixed, environ={})
    spark = build_session(config)
    for stage in STAGES[:4]:
        run_stage(spark, config, stage, "2100-01-01")
    spark.stop()


if __name__ == "__main__":
    _load_classes(*sys.argv[1:])
