"""One Spark session and one catalog for all tests of this tier; every test has a namespace of its own."""

import importlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME
from ganrec_spark.run.runner import Outcome, run_stage, stage_context
from ganrec_spark.spark.session import build_session

_NUMBER = itertools.count()
# Plans of a few rows are not worth compiling; the end-to-end tests run with Spark's own defaults.
INTERPRETED = (
    "spark.sql.codegen.wholeStage: 'false', spark.sql.codegen.factoryMode: NO_CODEGEN, "
    "spark.driver.extraJavaOptions: '-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC'"
)
MakeConfig = Callable[..., Config]


@pytest.fixture(scope="session")
def lake_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lake")


@pytest.fixture(scope="session")
def spark(lake_root: Path) -> Iterator[SparkSession]:
    overrides = [f"lake.root={lake_root}", "spark.master=local[2]", "spark.shuffle_partitions=2"]
    session = build_session(load_config(overrides=[*overrides, f"spark.properties={{{INTERPRETED}}}"], environ={}))
    yield session
    session.stop()


@pytest.fixture
def make_config(lake_root: Path) -> MakeConfig:
    """Return a function from `key=value` overrides to a configuration in a fresh, empty namespace."""
    namespace = f"test{next(_NUMBER)}"

    def make(*overrides: str) -> Config:
        fixed = [f"lake.root={lake_root}", f"lake.namespace={namespace}", "distributed.workers=1"]
        return load_config(overrides=[*fixed, *overrides], environ={})

    return make


@pytest.fixture
def config(make_config: MakeConfig) -> Config:
    return make_config()


@pytest.fixture
def lake(spark: SparkSession, config: Config) -> Lake:
    return Lake(spark, config.lake.catalog, config.lake.namespace)


@pytest.fixture
def run_stages(spark: SparkSession) -> Callable[..., list[Outcome]]:
    """Return a function that runs the named stages of one run in order."""

    def run(config: Config, *names: str, run_id: str = "2026-11-01") -> list[Outcome]:
        return [run_stage(spark, config, STAGE_BY_NAME[name], run_id) for name in names]

    return run


@pytest.fixture
def run_alone(spark: SparkSession) -> Callable[..., list[str]]:
    """Return a function that runs stages on a test's rows, whatever the log says, and returns their messages."""

    def run(config: Config, *names: str, run_id: str = "2026-11-01") -> list[str]:
        lake = Lake(spark, config.lake.catalog, config.lake.namespace)
        stages = [STAGE_BY_NAME[name] for name in names]
        modules = [importlib.import_module(f"ganrec_spark.stages.{stage.module}") for stage in stages]
        return [
            module.run(stage_context(lake, config, stage, run_id))
            for module, stage in zip(modules, stages, strict=True)
        ]

    return run
