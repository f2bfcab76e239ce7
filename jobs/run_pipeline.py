"""spark-submit entry point of the whole pipeline: jobs/run_pipeline.py --run-date 2026-11-01."""

import sys

from ganrec_spark.cli.process import job
from ganrec_spark.cli.runs import pipeline_options, run_pipeline_command

if __name__ == "__main__":
    sys.exit(job(pipeline_options, run_pipeline_command))
