"""A session with two task slots, as Horovod needs them, without a lake."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from ganrec_spark.config.load import load_config
from ganrec_spark.spark.session import build_session


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    root = tmp_path_factory.mktemp("lake")
    active = SparkSession.getActiveSession()
    session = build_session(
        load_config(overrides=[f"lake.root={root}", "spark.master=local[2]", "spark.shuffle_partitions=2"], environ={})
    )
    yield session
    if active is None:  # else it belongs to the Spark tests
        session.stop()
