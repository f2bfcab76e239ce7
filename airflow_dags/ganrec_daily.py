"""The pipeline in Airflow: one spark-submit for every entry of pipeline.STAGES, in its order. No logic lives here.

The scheduler needs this checkout and Airflow, not Spark and not Torch. These variables of the scheduler and its
workers say where things are; the run date and the configuration file are parameters of the DAG.

    GANREC_HOME          the checkout with jobs/ and conf/; default: the one this file is in
    GANREC_PYTHON        python of Spark's driver and workers; default: .venv/bin/python in GANREC_HOME
    GANREC_SPARK_SUBMIT  default: the spark-submit beside GANREC_PYTHON
    GANREC_SPARK_CONN    id of the Airflow connection that names the Spark master; default: spark

A connection in JSON works with every master: AIRFLOW_CONN_SPARK='{"conn_type": "spark", "host": "local[2]"}'.
As a URI, spark://local[2] would go to YARN without a word.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG, Param, chain

HOME = Path(os.environ.get("GANREC_HOME") or Path(__file__).resolve().parent.parent)
PYTHON = Path(os.environ.get("GANREC_PYTHON") or HOME / ".venv" / "bin" / "python")
SPARK_SUBMIT = os.environ.get("GANREC_SPARK_SUBMIT") or str(PYTHON.with_name("spark-submit"))

# The plan needs nothing but Python, so the checkout on the path is installation enough.
sys.path.insert(0, str(HOME))
from ganrec_spark.pipeline import STAGES  # noqa: E402

with DAG(
    dag_id="ganrec_daily",
    description="From raw ratings to published recommendations",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    # Days follow each other: id dictionaries grow, and publishing compares a run with the one before.
    max_active_runs=1,
    # Every stage replaces its own rows of the run, so that repeating it is safe.
    default_args={"retries": 1, "retry_delay": timedelta(minutes=5)},
    params={
        "run_date": Param(None, type=["null", "string"], format="date", description="default: the logical date"),
        "config": Param(str(HOME / "conf" / "default.yaml"), type="string", description="configuration file"),
    },
    tags=["ganrec"],
):
    chain(
        *(
            SparkSubmitOperator(
                task_id=stage.name,
                doc=stage.doc,
                name=f"ganrec {stage.name}",
                application=str(HOME / "jobs" / "run_stage.py"),
                application_args=[
                    *("--stage", stage.name),
                    *("--run-date", "{{ params.run_date or ds }}"),
                    *("--config", "{{ params.config }}"),
                ],
                conn_id=os.environ.get("GANREC_SPARK_CONN") or "spark",
                spark_binary=SPARK_SUBMIT,
                env_vars={"PYSPARK_PYTHON": str(PYTHON), "PYSPARK_DRIVER_PYTHON": str(PYTHON)},
            )
            for stage in STAGES
        )
    )
