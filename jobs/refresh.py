"""spark-submit entry point that makes the published lists of users with new events anew."""

import sys

from ganrec_spark.cli.loop import refresh
from ganrec_spark.cli.options import common
from ganrec_spark.cli.process import job

if __name__ == "__main__":
    sys.exit(job(common, refresh))
