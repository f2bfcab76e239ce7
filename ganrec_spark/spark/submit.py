"""What Spark is told about a stage: pure functions of the configuration, for the session, `ganrec submit` and Airflow.

Imports neither Spark nor Torch, so that a scheduler may use it. Secrets never stand on a command line: the driver
takes them from the configuration and its environment (session.build_session).
"""

import re
from collections.abc import Iterable
from pathlib import Path

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import ConfigError
from ganrec_spark.plan.stage import Stage

ARCHIVE = "ganrec-classes.jsa"
# An archive that does not fit is not worth a warning: Java loads the classes as usual.
QUIET = "-Xlog:cds=off -Xlog:cds+dynamic=off"
SECRET_WORDS = "password|secret|token|credential|account[.]key|[.]sas[.]"
# What is called so and yet only says where a secret is, or whether there is one.
_NO_SECRET = re.compile(r"\.secretKeyRef\.|\.secrets\.|(file|path|provider|enabled)$", re.IGNORECASE)
# What spark-submit itself wants to know, before a line of ours runs.
_SUBMITTERS = ("spark.kubernetes.", "spark.yarn.")


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


def is_secret(key: str) -> bool:
    """Whether a property is by its name for nobody's eyes."""
    return re.search(SECRET_WORDS, key, re.IGNORECASE) is not None and _NO_SECRET.search(key) is None


def secrets(config: Config) -> dict[str, str]:
    """Return the secrets of a configuration as they are written, ${NAME} or themselves, by the key's full name."""
    spark = config.spark
    profiles = {f"profiles.{name}": getattr(spark.profiles, name) for name in type(spark.profiles).model_fields}
    sections = {"lake.properties": config.lake.properties, "spark.properties": spark.properties}
    sections |= {f"spark.{name}": properties for name, properties in profiles.items()}
    found = {f"{name}.{key}": value for name, own in sections.items() for key, value in own.items() if is_secret(key)}
    salt = config.ingest.pseudonym_salt
    return found | ({"ingest.pseudonym_salt": salt} if salt else {})


def submit_properties(config: Config, profile: str, spark_home: Path | None = None) -> dict[str, str]:
    """Return what has to be known before the driver starts, and so must stand on spark-submit's command line.

    Secrets do not: the driver adds them itself. `spark_home` is the folder of the Spark that submits; its class
    archive, if there is one, halves a driver's start. Raises ConfigError for a secret that spark-submit itself needs.
    """
    properties = {"spark.driver.memory": config.spark.driver_memory}
    if spark_home and (options := java_options(spark_home)):
        properties["spark.driver.defaultJavaOptions"] = options
    for key, value in stage_properties(config, profile).items():
        if not is_secret(key):
            properties[key] = value
        elif key.startswith(_SUBMITTERS):
            raise ConfigError(
                f"spark.properties.{key}: expected no secret that spark-submit itself needs, for everyone may read its "
                "command line; put it into conf/spark-defaults.conf of the Spark that submits (SPARK_CONF_DIR), "
                "readable by you alone, or name one that the cluster keeps (spark.kubernetes.driver.secretKeyRef.NAME)"
            )
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
