"""A lake of an earlier version, as text: written down from a real one, built up again in a test.

The text has every table as that version created it, the rows that later versions read whole, and two of each other
table's, which only their own run reads (of checkpoints the first bytes). It is written down with that version's code,
from a lake that it made of two generated worlds, recommend.n=5, evaluate.ks=[5, 10], the rest to be fast:

    git worktree add --detach /tmp/old f81ba5d && export PYTHONPATH=/tmp/old
    python -m ganrec_spark.cli world --out 1.parquet --users 36 --items 24    # 2.parquet: 44 and 28
    python -m ganrec_spark.cli run --run-date 2026-11-01 --set ingest.source=1.parquet ...    # 2026-11-02: 2.parquet
    python tests/spark/old_lake.py LAKE f81ba5d > tests/spark/f81ba5d.json
"""

import json
import sys
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

PREFIX = "{lake}"
_WHOLE = ("users", "items", "ratings", "stage_log", "publish_checks", "current_run", "matrix_profile")
_TIMES = {"timestampFormat": "yyyy-MM-dd HH:mm:ss.SSSSSS"}


def written_down(name: str) -> dict[str, Any]:
    """Return the lake that lies beside this file as NAME.json."""
    content: dict[str, Any] = json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
    return content


def build(spark: SparkSession, prefix: str, old: dict[str, Any]) -> None:
    """Create the old lake's tables and views below `prefix` (catalog.namespace), and commit its rows run by run."""
    spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {prefix}")
    for table in old["tables"].values():
        spark.sql(table["create"].replace(PREFIX, prefix))
    runs = sorted({run_id for run_id, _ in old["publications"]})
    for run_id in runs:
        for name, table in old["tables"].items():
            rows = [row for row in rows_of(table) if _first_seen(row) == run_id]
            if rows and name != "current_run":
                _as_rows(spark, f"{prefix}.{name}", rows).writeTo(f"{prefix}.{name}").append()
    for view in old["views"]:
        spark.sql(view.replace(PREFIX, prefix))
    (pointer,) = rows_of(old["tables"]["current_run"])
    for run_id, edition in old["publications"]:
        row = {**pointer, "published_run_id": run_id, "edition": edition}
        writer = _as_rows(spark, f"{prefix}.current_run", [row]).writeTo(f"{prefix}.current_run")
        writer = writer.option("snapshot-property.published-run", run_id)
        writer.option("snapshot-property.published-edition", edition).overwrite(F.lit(True))


def rows_of(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a table's rows as column -> value, in JSON's types."""
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def _first_seen(row: dict[str, Any]) -> str:
    return str(row.get("run_id", row.get("first_run_id")))


def _as_rows(spark: SparkSession, full_name: str, rows: list[dict[str, Any]]) -> Any:
    schema = spark.table(full_name).schema
    text = spark.createDataFrame([(json.dumps(row),) for row in rows], "row string").coalesce(1)
    return text.select(F.from_json("row", schema, _TIMES).alias("row")).select("row.*")


def _dump(root: str, commit: str) -> dict[str, Any]:
    # Modules of the old version, whose code this runs on.
    from ganrec_spark.session import build_session
    from ganrec_spark.tables import TABLE_BY_NAME

    from ganrec_spark.config import load_config
    from ganrec_spark.lake import Lake, _create_statement

    class Recorder:
        """A session that writes down what it is told."""

        said: list[str] = []  # noqa: RUF012

        def sql(self, statement: str) -> None:
            self.said.append(statement)

    spark = build_session(load_config(overrides=[f"lake.root={root}", "spark.master=local[2]"], environ={}))
    lake = Lake(spark, "lake", "ganrec")
    tables = {}
    for name, declaration in TABLE_BY_NAME.items():
        frame = lake.read_all(name)
        if name not in _WHOLE and not name.endswith("_editions"):
            cut = [F.substring(name, 1, 9).alias(name) if kind == "binary" else name for name, kind in frame.dtypes]
            frame = frame.select(*cut).limit(2)
        found = [json.loads(row[0]) for row in frame.select(F.to_json(F.struct("*"), _TIMES)).collect()]
        tables[name] = {
            "create": _create_statement(f"{PREFIX}.{name}", declaration),
            "columns": frame.columns,
            "rows": sorted(([row.get(column) for column in frame.columns] for row in found), key=str),
        }
    views = Lake(Recorder(), "CATALOG", "NAMESPACE")  # type: ignore[arg-type]
    views._known = set(TABLE_BY_NAME)
    views._create_views()
    return {
        "commit": commit,
        "tables": tables,
        "views": [view.replace("CATALOG.NAMESPACE", PREFIX) for view in Recorder.said],
        "publications": [(one.run_id, one.edition) for one in reversed(lake.publications())],
    }


if __name__ == "__main__":
    told = _dump(*sys.argv[1:])
    # A row a line: what changes in it can be read in a diff.
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":")).replace("],[", "],\n[").replace('},"', '},\n"')
    print(text)
