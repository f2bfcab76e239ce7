"""spark-submit entry point of one stage: jobs/run_stage.py --stage sparsity --run-date 2026-11-01."""

import sys

from ganrec_spark.cli.process import job
from ganrec_spark.cli.runs import run_stage_command, stage_options

if __name__ == "__main__":
    sys.exit(job(stage_options, run_stage_command))
