"""What explain tells people to look at is there."""

import re
from pathlib import Path

from ganrec_spark.config.lists import Rules
from ganrec_spark.reporting import explain


def test_every_key_that_is_named_is_one() -> None:
    named = set(re.findall(r"rules\.(\w+)\)", Path(explain.__file__).read_text()))
    assert named >= {"excluded_pairs", "blocked_items", "available_items"}
    assert named <= Rules.model_fields.keys()
