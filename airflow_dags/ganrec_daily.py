"""The pipeline in Airflow: one spark-submit for every entry of pipeline.STAGES, in its order. No logic lives here.

ganrec_submit.py says which variables of the environment say where things are.
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import DAG, Param, chain, task
from airflow.timetables.interval import CronDataIntervalTimetable

# Also where a copy of this file lies elsewhere.
sys.path.insert(0, str(Path(os.environ.get("GANREC_HOME") or Path(__file__).resolve().parent.parent) / "airflow_dags"))
from ganrec_submit import (
    CONFIG_FILE,
    DEFAULTS,
    HOME,
    OVERRIDES,
    PARAMETERS,
    PUBLISHED,
    PYTHON,
    StageOperator,
    submitted,
)

from ganrec_spark.plan.learning_tables import ACTIONS
from ganrec_spark.plan.pipeline import STAGES
from ganrec_spark.plan.stage import Stage

# Of a scheduled run and of a backfill the logical date is the start of the data interval; of `airflow dags test DATE`
# it is the date that was asked for.
RUN_DATE = "{{ params.run_date or ((dag_run.logical_date or dag_run.run_after) | ds) }}"


def task_of(stage: Stage) -> StageOperator:
    """Return the task of one stage."""
    after_branch = stage.name in ("merge_choose", "merge_final")  # what they follow may have been skipped
    return submitted(
        stage.name,
        f"{stage.doc}\n\nReads: {', '.join(stage.reads) or 'the sources'}.  \n"
        f"Writes: {', '.join(stage.writes) or 'one HTML page'}.",
        "run_stage.py",
        ("--stage", stage.name, "--run-date", RUN_DATE),
        stage.profile,
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
    default_args=DEFAULTS,
    params={
        "run_date": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}-\d{2}-\d{2}(\.[1-9]\d{0,3})?$",
            description="the run's id, DATE or DATE.N; default: the start of the data interval",
        ),
        "next_run": Param(
            None,
            enum=[None, *ACTIONS],
            description="why it runs: what table next_run said where ganrec_feedback started it; it changes nothing: "
            "the run reads the table itself (warm_start.when)",
        ),
        **PARAMETERS,
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

    tasks = {stage.name: task_of(stage) for stage in STAGES}
    branch = sparse_or_not(str(HOME), RUN_DATE, CONFIG_FILE, OVERRIDES)
    chain(*tasks.values())
    tasks["user_rows"] >> branch >> [tasks["train_generator"], tasks["augment_final"]]
