"""Which Python and packages the executors have, against the driver's and what the stages import there."""

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pyspark.sql import SparkSession

from ganrec_spark.config.cluster import Distributed
from ganrec_spark.config.sections import Config

# As they are called where packages are installed; requirements/executor.in, and Torch.
_PACKAGES = ("numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "scipy", "lightgbm", "threadpoolctl", "torch")


@dataclass(frozen=True)
class Surroundings:
    """What the executors have: versions of Python, packages that some lack, and those that differ, in words."""

    pythons: tuple[str, ...]
    missing: tuple[str, ...]
    different: tuple[str, ...]


def surroundings(spark: SparkSession, config: Config) -> Surroundings:
    """Ask the executors, one task a slot, without importing the packages, for what the configured training needs.

    Raises Py4JError or PySparkException where no task can run, as with another minor version of Python.
    """
    names = (*_PACKAGES, *_of_workers(config.distributed))

    def look(_: Iterable[int]) -> Iterator[dict[str, str | None]]:  # by value: an executor need not have our package
        found: dict[str, str | None] = {"Python": sys.version.split()[0]}
        for name in names:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = None
        found["ganrec_spark"] = "there" if importlib.util.find_spec("ganrec_spark") else None
        yield found

    slots = spark.sparkContext.defaultParallelism
    told = spark.sparkContext.parallelize(range(slots), slots).mapPartitions(look).collect()
    (ours,) = look([])
    versions = {name: sorted({one[name] or "" for one in told}) for name in ours}
    missing = tuple(name for name, found in versions.items() if "" in found)
    others = {name: [one for one in found if one not in ("", ours[name])] for name, found in versions.items()}
    return Surroundings(
        tuple(versions["Python"]),
        missing,
        tuple(
            f"{name} {', '.join(found)} (driver {ours[name] or 'without'})" for name, found in others.items() if found
        ),
    )


def _of_workers(config: Distributed) -> tuple[str, ...]:
    """Return what training workers need besides; one alone trains in the driver."""
    if config.workers == 1:
        return ()
    needed = {"horovod": config.launcher == "horovod", "petastorm": config.reader == "petastorm"}
    return tuple(name for name, wanted in needed.items() if wanted)
