"""The sections that say how Spark is started, and how training is spread over its workers."""

from typing import Annotated, Literal

from pydantic import Field

from ganrec_spark.config.types import Count, Section


class ResourceProfiles(Section):
    sql: dict[str, str] = {}
    training: dict[str, str] = {"spark.dynamicAllocation.enabled": "false"}
    scoring: dict[str, str] = {}


class Spark(Section):
    master: str | None = None
    packages: tuple[str, ...] = (
        "org.apache.iceberg:iceberg-spark-runtime-4.0_2.13:1.11.0",
        "org.xerial:sqlite-jdbc:3.53.1.0",
        "org.postgresql:postgresql:42.7.8",
    )
    jars: tuple[str, ...] = ()
    driver_memory: Annotated[str, Field(pattern=r"^\d+[mg]$")] = "3g"
    shuffle_partitions: Count = 4
    python: str | None = None
    py_files: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    properties: dict[str, str] = {}
    profiles: ResourceProfiles = ResourceProfiles()


Launcher = Literal["horovod", "torchrun"]
Reader = Literal["petastorm", "pyarrow"]


class Distributed(Section):
    workers: Count = 2
    launcher: Launcher = "horovod"
    reader: Reader = "petastorm"
    start_timeout_seconds: Count = 120
    stall_timeout_seconds: Count = 600
    threads_per_worker: Annotated[int, Field(ge=0)] = 0
