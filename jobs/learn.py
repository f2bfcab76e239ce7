"""spark-submit entry point that learns from what people did with the published lists, and decides what to do next."""

import sys

from ganrec_spark.cli.loop import learn, loop_options
from ganrec_spark.cli.process import job

if __name__ == "__main__":
    sys.exit(job(loop_options, learn))
