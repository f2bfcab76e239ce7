"""Ten thousand odd rows and hundreds of damaged files: every row is valid or has its rule, and nothing ends in a trace.

GANREC_FUZZ_FILES=300 tries as many files as that; 40 by default.
"""

import csv
import gzip
import io
import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.rules import apply_rules, mark_duplicates, row_as_json
from ganrec_spark.raw.sources import explained, read_source

HEADER = ("user_id", "item_id", "rating", "timestamp", "note")
RULES = {
    None, "malformed_row", "missing_id", "bad_encoding", "inexact_id", "bad_rating", "non_finite_rating",
    "rating_out_of_range", "bad_time", "future_time", "exact_duplicate", "conflicting_duplicate",
}  # fmt: skip
IDS = (
    "u1", "007", "7", " 7 ", "", " ", "NULL", "nan", "None", "1e5", "100000", "a,b", 'a"b', '"', "a\nb", "a\r\nb",
    "é", "键", "\u202e", "x" * 3000, "-0", "0x10", "\t", "a;b", "'", "\\", "\\n", "=1+1", "\ufffd", "\ufeff",
)  # fmt: skip
NUMBERS = (
    "3", "4.5", "-1", "1e3", "1e999", "NaN", "inf", "", "4d", "0x10", "٣", "3_0", "true", "1,5", "+2", ".5", "5.",
    "99999999999999999999", "-0.0", "many",
)  # fmt: skip
TIMES = (
    "1700000000", "1700000000000", "1e300", "-1", "0", "", "2023-11-14", "2023-11-14T22:13:20Z", "12:30", "yesterday",
    "2023-02-30", "9999-12-31", "20231114", "1.7e9", "2023-11-14 22:13:20+05:30", "NaN",
)  # fmt: skip


def counted(spark: SparkSession, path: Path, ingest: Ingest, scratch: Path) -> Counter[str | None]:
    with explained(str(path)):
        rows = apply_rules(read_source(spark, ingest, str(path), scratch), ingest, datetime(2026, 11, 2, tzinfo=UTC))
        rows = mark_duplicates(rows.withColumn("origin", F.lit("source")), keep_conflicts=False)
        return rules_of(rows)


def rules_of(rows: DataFrame) -> Counter[str | None]:
    told = rows.withColumn("row", row_as_json(rows.schema["raw"].dataType))
    found = told.groupBy("rule").agg(F.count("row").alias("n")).collect()
    return Counter({row["rule"]: row["n"] for row in found})


@pytest.mark.faults
def test_ten_thousand_odd_rows_are_valid_or_have_a_rule(spark: SparkSession, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        (
            str(rng.choice(IDS)),
            str(rng.choice(IDS)),
            str(rng.choice(NUMBERS)),
            str(rng.choice(TIMES)),
            str(rng.choice(IDS)),
        )
        for _ in range(10_000)
    ]
    with (tmp_path / "odd.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    found = counted(spark, tmp_path / "odd.csv", Ingest(), tmp_path / "scratch")
    assert sum(found.values()) == 10_000
    assert set(found) <= RULES
    # Worked out again from the rules' words, for those that do not depend on Spark's parsers.
    blank = sum(not user.strip(" \t\r\n") or not item.strip(" \t\r\n") for user, item, *_ in rows)
    assert found["missing_id"] == blank
    garbled = sum(
        "\ufffd" in user + item and bool(user.strip(" \t\r\n")) and bool(item.strip(" \t\r\n"))
        for user, item, *_ in rows
    )
    assert found["bad_encoding"] == garbled
    assert found["malformed_row"] == 0


def damaged(rng: np.random.Generator, folder: Path, number: int) -> Path:
    """Write a file of ratings, damaged at random: bytes flipped, cut, repeated, or of another kind."""
    rows = [
        (
            f"u{rng.integers(9)}",
            f"i{rng.integers(9)}",
            str(rng.integers(1, 6)),
            str(1_700_000_000 + second),
            str(rng.choice(IDS)),
        )
        for second in range(int(rng.integers(1, 60)))
    ]
    kind = str(rng.choice(["csv", "tsv", "json", "parquet", "gz"]))
    path = folder / f"f{number}.{kind}"
    if kind == "parquet":
        columns = {name: [row[place] for row in rows] for place, name in enumerate(HEADER)}
        sink = io.BytesIO()
        pq.write_table(pa.table(columns), sink)
        content = sink.getvalue()
    elif kind == "json":
        content = "\n".join(json.dumps(dict(zip(HEADER, row, strict=True))) for row in rows).encode()
    else:
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t" if kind == "tsv" else str(rng.choice([",", ";", "|"])))
        writer.writerows([HEADER, *rows] if rng.random() < 0.9 else rows)
        content = text.getvalue().encode()
    content = bytearray(gzip.compress(content) if kind == "gz" else content)
    for _ in range(int(rng.integers(0, 4))):
        place = int(rng.integers(len(content))) if content else 0
        match rng.integers(4):
            case 0:
                content[place : place + 1] = bytes([rng.integers(256)])
            case 1:
                del content[place:]
            case 2:
                content[place:place] = bytes(rng.integers(0, 256, 5, dtype=np.uint8))
            case _:
                content[place:place] = rng.choice([b'"', b"\n", b",", b"\x00", b"\xff"])
    path.write_bytes(bytes(content))
    return path


@pytest.mark.faults
def test_damaged_files_are_read_or_refused_in_one_message(spark: SparkSession, tmp_path: Path) -> None:
    rng, outcomes = np.random.default_rng(1), Counter[str]()
    refusals: dict[Path, str] = {}
    for number in range(int(os.environ.get("GANREC_FUZZ_FILES", "40"))):
        path = damaged(rng, tmp_path, number)
        try:
            found = counted(spark, path, Ingest(), tmp_path / "scratch")
        except InputError as error:
            outcomes["refused"] += 1
            refusals[path] = str(error)
            continue
        outcomes["read"] += 1
        assert set(found) <= RULES, path.read_bytes()
        again = counted(spark, path, Ingest(), tmp_path / "scratch")
        assert found == again
    assert min(outcomes["read"], outcomes["refused"]) > 0
    for path, told in refusals.items():
        assert path.name in told or "column '" in told
        assert "\n" not in told
        assert "An error occurred while calling" not in told
