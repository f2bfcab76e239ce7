"""The pipeline in Airflow: one spark-submit for every entry of pipeline.STAGES, in its order. No logic lives here.

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
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.exceptions import AirflowException, AirflowFailException
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG, Asset, Context, Param, chain, task
from airflow.timetables.interval import CronDataIntervalTimetable

HOME = Path(os.environ.get("GANREC_HOME") or Path(__file__).resolve().parent.parent)
PYTHON = Path(os.environ.get("GANREC_PYTHON") or HOME / ".venv" / "bin" / "python")
SPARK_SUBMIT = os.environ.get("GANREC_SPARK_SUBMIT") or str(PYTHON.with_name("spark-submit"))
SPARK_HOME = next(PYTHON.parents[1].glob("lib/python3*/site-packages/pyspark"), None)
CONFIG_FILE = os.environ.get("GANREC_CONFIG") or str(HOME / "conf" / "cluster.yaml")

# The plan and the configuration need nothing heavy, so the checkout on the path is installation enough.
sys.path.insert(0, str(HOME))
from ganrec_spark.config.load import load_config  # noqa: E402
from ganrec_spark.plan.pipeline import STAGES  # noqa: E402
from ganrec_spark.plan.stage import Stage  # noqa: E402
from ganrec_spark.spark.submit import submit_properties  # noqa: E402

CONFIG = load_config(CONFIG_FILE)
# Of a scheduled run and of a backfill the logical date is the start of the data interval; of `airflow dags test DATE`
# it is the date that was asked for.
RUN_DATE = "{{ params.run_date or ((dag_run.logical_date or dag_run.run_after) | ds) }}"
OVERRIDES = "{{ params.overrides | tojson }}"
# Many times what a stage takes with millions of ratings; one that hangs must not hold its slot for ever.
TIMEOUTS = {"sql": timedelta(hours=1), "scoring": timedelta(hours=4), "training": timedelta(hours=12)}
NO_RETRY = {
    2: "configuration: mend the key that the log names",
    3: "input data: see the log and rejected_ratings, mend the source",
    6: "quality checks refused publication: see publish_checks; readers keep what they saw",
}
PUBLISHED = Asset("ganrec_published_recommendations")


def paths(files: tuple[str, ...]) -> str | None:
    """Return the files as spark-submit takes them; what is no URI is relative to the checkout."""
    return ",".join(file if "://" in file else str(HOME / file) for file in files) or None


class StageOperator(SparkSubmitOperator):
    """Submits one stage; what would end in the same way again is not retried: see NO_RETRY."""

    def execute(self, context: Context) -> None:
        """Run spark-submit. Raises AirflowFailException, which ends the task, where a retry cannot help."""
        try:
            super().execute(context)
        except AirflowException as error:
            code = re.search(r"Error code is: (\d+)", str(error))
            if code and int(code[1]) in NO_RETRY:
                raise AirflowFailException(f"exit code {code[1]}, {NO_RETRY[int(code[1])]}") from error
            raise


def submitted(stage: Stage) -> StageOperator:
    """Return the task of one stage."""
    after_branch = stage.name in ("merge_choose", "merge_final")  # what they follow may have been skipped
    return StageOperator(
        task_id=stage.name,
        doc_md=f"{stage.doc}\n\nReads: {', '.join(stage.reads) or 'the sources'}.  \n"
        f"Writes: {', '.join(stage.writes) or 'one HTML page'}.",
        name=f"ganrec {stage.name}",
        application=str(HOME / "jobs" / "run_stage.py"),
        application_args=[
            *("--stage", stage.name, "--run-date", RUN_DATE),
            *("--config", CONFIG_FILE, "--set-json", OVERRIDES),
        ],
        conn_id=os.environ.get("GANREC_SPARK_CONN") or "spark",
        conf=submit_properties(CONFIG, stage.profile, SPARK_HOME),
        py_files=paths(CONFIG.spark.py_files),
        archives=paths(CONFIG.spark.archives),
        spark_binary=SPARK_SUBMIT,
        env_vars={"PYSPARK_PYTHON": CONFIG.spark.python or str(PYTHON), "PYSPARK_DRIVER_PYTHON": str(PYTHON)},
        execution_timeout=TIMEOUTS[stage.profile],
        outlets=[PUBLISHED] if stage.name == "publish" else [],
        trigger_rule="none_failed" if after_branch else "all_success",
    )


with DAG(
    dag_id="ganrec_daily",
    description="From raw ratings to published recommendations",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    # Days follow each other: id dictionaries grow, and publishing compares a run with the one before.
    max_active_runs=1,
    # Every stage replaces its own rows of the run, so that repeating it is safe.
    default_args={
        "pool": "ganrec_writers",
        "retries": int(os.environ.get("GANREC_RETRIES") or 2),
        "retry_delay": timedelta(minutes=2),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=30),
    },
    params={
        "run_date": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}-\d{2}-\d{2}(\.[1-9]\d{0,3})?$",
            description="the run's id, DATE or DATE.N; default: the start of the data interval",
        ),
        "overrides": Param({}, type="object", description='configuration, such as {"sparsity.max_ratings": 10}'),
    },
    tags=["ganrec"],
):

    @task.branch_external_python(python=str(PYTHON), expect_airflow=False, pool="default_pool")
    def sparse_or_not(home: str, run_date: str, config: str, overrides: str) -> list[str]:
        """Leave out the generators where matrix_profile, written by stage sparsity, calls for no filling."""
        import subprocess
        import sys

        command = [sys.executable, "-m", "ganrec_spark.cli", "fill-wanted", "--run-date", run_date]
        command += ["--config", config, "--set-json", overrides, "--master", "local[1]"]
        answer = subprocess.run(command, cwd=home, stdout=subprocess.PIPE, text=True, check=True).stdout
        return ["train_generator", "augment_final"] if answer.split()[-1] == "yes" else []

    tasks = {stage.name: submitted(stage) for stage in STAGES}
    branch = sparse_or_not(str(HOME), RUN_DATE, CONFIG_FILE, OVERRIDES)
    chain(*tasks.values())
    tasks["user_rows"] >> branch >> [tasks["train_generator"], tasks["augment_final"]]
