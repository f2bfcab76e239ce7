"""spark-submit entry point that takes events: jobs/feedback.py SOURCE."""

import sys

from ganrec_spark.cli.feedback import feedback, feedback_options
from ganrec_spark.cli.process import job

if __name__ == "__main__":
    sys.exit(job(feedback_options, feedback))
