"""spark-submit entry point that takes events as they come: jobs/stream.py SOURCE."""

import sys

from ganrec_spark.cli.process import job
from ganrec_spark.cli.stream import stream, stream_options

if __name__ == "__main__":
    sys.exit(job(stream_options, stream))
