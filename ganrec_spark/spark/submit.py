"""What Spark is told about a stage: pure functions of the configuration, for the session, `ganrec submit` and Airflow.

Imports neither Spark nor Torch, so that a scheduler may use it. Passwords never stand on a command line: the driver
takes catalog properties from the configuration and its environment (session.catalog_properties).
"""

from collections.abc import Iterable
from pathlib import Path

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import ConfigError
from ganrec_spark.plan.pipeline import Stage

ARCHIVE = "ganrec-classes.jsa"
# An archive that does not fit is not worth a warning: Java loads the classes as usual.
QUIET = "-Xlog:cds=off -Xlog:cds+dynamic=off"


def java_options(spark_home: Path) -> str:
    """Return the options that make a JVM of this Spark use its class archive; nothing where there is none."""
    archive = spark_home / ARCHIVE
    return f"-XX:SharedArchiveFile={archive} {QUIET}" if archive.exists() else ""


def stage_properties(config: Config, profile: str) -> dict[str, str]:
    """Return the Spark properties of a stage of this profile (sql, training, scoring): what all share, and its own."""
    try:
        own: dict[str, str] = getattr(config.spark.profiles, profile)
    except AttributeError:
        raise ConfigError(f"profile '{profile}': expected sql, training or scoring") from None
    return {**config.spark.properties, **own}


def submit_properties(config: Config, profile: str, spark_home: Path | None = None) -> dict[str, str]:
    """Return what has to be known before the driver starts, and so must stand on spark-submit's command line.

    `spark_home` is the folder of the Spark that submits; its class archive, if there is one, halves a driver's start.
    """
    properties = {"spark.driver.memory": config.spark.driver_memory}
    if spark_home and (options := java_options(spark_home)):
        properties["spark.driver.defaultJavaOptions"] = options
    properties |= stage_properties(config, profile)
    if config.spark.python:
        properties["spark.pyspark.python"] = config.spark.python
    if config.spark.jars:
        properties["spark.jars"] = ",".join(config.spark.jars)
    return properties


def submit_command(
    config: Config, stage: Stage, run_date: str, job_arguments: Iterable[str] = (), spark_home: Path | None = None
) -> list[str]:
    """Return the spark-submit command, a word an entry, that runs one stage of one date in a driver of its own."""
    command = ["spark-submit", "--name", f"ganrec {stage.name} {run_date}"]
    if config.spark.master:
        command += ["--master", config.spark.master]
    for option, files in (("--py-files", config.spark.py_files), ("--archives", config.spark.archives)):
        if files:
            command += [option, ",".join(files)]
    for key, value in submit_properties(config, stage.profile, spark_home).items():
        command += ["--conf", f"{key}={value}"]
    return [*command, "jobs/run_stage.py", "--stage", stage.name, "--run-date", run_date, *job_arguments]
