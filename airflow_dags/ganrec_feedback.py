"""The loop in Airflow: where events came in, measure what lists are worth, and do what table next_run says. Or say it.

It runs when the asset ganrec_feedback_events was updated: by a task that submits jobs/feedback.py with this asset
as its outlet, or from outside by `POST /api/v2/assets/events`. Updates that come while it runs lead to one run more.

- nothing: an empty task.
- refresh: submits jobs/refresh.py: lists of users with new events, from the published models.
- fine_tune, retrain, gate_again: starts ganrec_daily for today, once a day at most: a decision stands until there is a
  new run, and each delivery would ask for it again. With fine_tune and warm_start.when=decided that run goes on from
  the published run's models: it reads table next_run itself, so it does so however it is started.
- roll_back: fails, which is what Airflow tells people of. It never goes back by itself: an interval that is looked at
  with each delivery is wrong more often than 1 time in 20, and a second attempt would go one run further back.

ganrec_submit.py says which variables of the environment say where things are.
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from airflow.exceptions import AirflowFailException
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, BaseOperator, task

# Also where a copy of this file lies elsewhere.
sys.path.insert(0, str(Path(os.environ.get("GANREC_HOME") or Path(__file__).resolve().parent.parent) / "airflow_dags"))
from ganrec_submit import (
    CONFIG_FILE,
    DEFAULTS,
    EVENTS,
    HOME,
    OVERRIDES,
    PARAMETERS,
    PYTHON,
    submitted,
)

from ganrec_spark.plan.learning_tables import ACTIONS
from ganrec_spark.plan.pipeline import STAGE_BY_NAME

DAY = "{{ dag_run.run_after | ds }}"


def daily(action: str) -> BaseOperator:
    """Return the task that starts ganrec_daily ahead of its schedule."""
    return TriggerDagRunOperator(
        task_id=action,
        trigger_dag_id="ganrec_daily",
        trigger_run_id=f"feedback__{DAY}",
        skip_when_already_exists=True,
        conf=f'{{"run_date": "{DAY}", "next_run": "{action}", "overrides": {OVERRIDES}}}',
        note=f"started by ganrec_feedback: table next_run says {action}",
        pool="default_pool",
    )


with DAG(
    dag_id="ganrec_feedback",
    description="From what people did to what to do next",
    doc_md=__doc__,
    schedule=[EVENTS],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    params=PARAMETERS,
    tags=["ganrec"],
):

    @task.branch_external_python(python=str(PYTHON), expect_airflow=False, pool="default_pool")
    def what_next(home: str, config: str, overrides: str) -> str:
        """Read the action from table next_run, which stage learn wrote of the run that readers see."""
        import subprocess
        import sys

        command = [sys.executable, "-m", "ganrec_spark.cli", "next"]
        command += ["--config", config, "--set-json", overrides, "--master", "local[1]"]
        answer = subprocess.run(command, cwd=home, stdout=subprocess.PIPE, text=True, check=True).stdout
        action, reason = answer.splitlines()[-2:]
        print(f"{action}: {reason}")
        return action

    @task(pool="default_pool", retries=0)
    def roll_back() -> None:
        """Tell people, who decide."""
        raise AirflowFailException(
            "the published lists are provably worse than a control arm's: see the log of what_next, tables next_run "
            "and arm_differences; if they are, `ganrec rollback` goes back to the run before"
        )

    learn = submitted("learn", STAGE_BY_NAME["learn"].doc, "learn.py", (), STAGE_BY_NAME["learn"].profile)
    branches = {
        "nothing": EmptyOperator(task_id="nothing", pool="default_pool"),
        "refresh": submitted("refresh", "Lists of users with new events.", "refresh.py", (), "scoring"),
    }
    branches |= {action: daily(action) for action in ("fine_tune", "retrain", "gate_again")}
    branches["roll_back"] = roll_back().operator
    learn >> what_next(str(HOME), CONFIG_FILE, OVERRIDES) >> [branches[action] for action in ACTIONS]
