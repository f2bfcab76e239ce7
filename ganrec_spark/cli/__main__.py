"""`python -m ganrec_spark.cli` is the command `ganrec`."""

import sys

from ganrec_spark.cli.main import main

sys.exit(main())
