"""What the DAGs of this folder share: where things are, and how one spark-submit is run. Airflow finds no DAG in here.

The scheduler needs this checkout and Airflow, not Spark and not Torch. These variables of the scheduler and its
workers say where things are; what the catalog's properties name as ${NAME} must be in their environment, too.

    GANREC_HOME          the checkout with jobs/, conf/ and dist/; default: the one this file is in
    GANREC_CONFIG        the configuration file; default: conf/cluster.yaml in GANREC_HOME
    GANREC_PYTHON        python of Spark's driver and, unless spark.python names another, of its executors;
                         default: .venv/bin/python in GANREC_HOME
    GANREC_SPARK_SUBMIT  default: the spark-submit beside GANREC_PYTHON
    GANREC_RETRIES       of a task that fails; default: 2
    GANREC_SPARK_CONN    id of the Airflow connection that names the Spark master; default: spark

A connection in JSON works with every master: AIRFLOW_CONN_SPARK='{"conn_type": "spark", "host": "spark://host:7077"}'.
As a URI, spark://local[2] would go to YARN without a word. Tasks that write the lake take a slot of the pool
ganrec_writers: `airflow pools set ganrec_writers 1 "stages that write the lake"`.
"""

import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.exceptions import AirflowException, AirflowFailException
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Asset, Context, Param

HOME = Path(os.environ.get("GANREC_HOME") or Path(__file__).resolve().parent.parent)
PYTHON = Path(os.environ.get("GANREC_PYTHON") or HOME / ".venv" / "bin" / "python")
SPARK_SUBMIT = os.environ.get("GANREC_SPARK_SUBMIT") or str(PYTHON.with_name("spark-submit"))
SPARK_HOME = next(PYTHON.parents[1].glob("lib/python3*/site-packages/pyspark"), None)
CONFIG_FILE = os.environ.get("GANREC_CONFIG") or str(HOME / "conf" / "cluster.yaml")

# The plan and the configuration need nothing heavy, so the checkout on the path is installation enough.
sys.path.insert(0, str(HOME))
from ganrec_spark.config.load import load_config  # noqa: E402
from ganrec_spark.spark.submit import submit_properties  # noqa: E402

CONFIG = load_config(CONFIG_FILE)
OVERRIDES = "{{ params.overrides | tojson }}"
# Many times what a stage takes with millions of ratings; one that hangs must not hold its slot for ever.
TIMEOUTS = {"sql": timedelta(hours=1), "scoring": timedelta(hours=4), "training": timedelta(hours=12)}
NO_RETRY = {
    2: "configuration: mend the key that the log names",
    3: "input data: see the log and rejected_ratings, mend the source",
    6: "quality checks refused publication: see publish_checks; readers keep what they saw",
}
PUBLISHED = Asset("ganrec_published_recommendations")
EVENTS = Asset("ganrec_feedback_events")  # table feedback_events; whoever appends to it updates the asset
# Everything that is run replaces its own rows, or adds what is not there yet, so that repeating it is safe.
DEFAULTS = {
    "pool": "ganrec_writers",
    "retries": int(os.environ.get("GANREC_RETRIES") or 2),
    "retry_delay": timedelta(minutes=2),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=30),
}
PARAMETERS = {
    "overrides": Param({}, type="object", description='configuration, such as {"sparsity.max_ratings": 10}'),
}


def paths(files: tuple[str, ...]) -> str | None:
    """Return the files as spark-submit takes them; what is no URI is relative to the checkout."""
    return ",".join(file if "://" in file else str(HOME / file) for file in files) or None


class StageOperator(SparkSubmitOperator):
    """Submits one job; what would end in the same way again is not retried: see NO_RETRY."""

    def execute(self, context: Context) -> None:
        """Run spark-submit. Raises AirflowFailException, which ends the task, where a retry cannot help."""
        try:
            super().execute(context)
        except AirflowException as error:
            code = re.search(r"Error code is: (\d+)", str(error))
            if code and int(code[1]) in NO_RETRY:
                raise AirflowFailException(f"exit code {code[1]}, {NO_RETRY[int(code[1])]}") from error
            raise


def submitted(task_id: str, doc: str, job: str, arguments: tuple[str, ...], profile: str, **more: Any) -> StageOperator:
    """Return the task that submits jobs/JOB with its own arguments, the configuration and the overrides."""
    return StageOperator(
        task_id=task_id,
        doc_md=doc,
        name=f"ganrec {task_id}",
        application=str(HOME / "jobs" / job),
        application_args=[*arguments, "--config", CONFIG_FILE, "--set-json", OVERRIDES],
        conn_id=os.environ.get("GANREC_SPARK_CONN") or "spark",
        conf=submit_properties(CONFIG, profile, SPARK_HOME),
        py_files=paths(CONFIG.spark.py_files),
        archives=paths(CONFIG.spark.archives),
        spark_binary=SPARK_SUBMIT,
        env_vars={"PYSPARK_PYTHON": CONFIG.spark.python or str(PYTHON), "PYSPARK_DRIVER_PYTHON": str(PYTHON)},
        execution_timeout=TIMEOUTS[profile],
        **more,
    )
