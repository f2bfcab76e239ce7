"""The published run of the end-to-end tests, to compare with, and the session of those that need one."""

from e2e.conftest import digests, published, source
from spark.conftest import config, lake, lake_root, make_config, run_alone, run_stages, spark

__all__ = [
    "config",
    "digests",
    "lake",
    "lake_root",
    "make_config",
    "published",
    "run_alone",
    "run_stages",
    "source",
    "spark",
]
