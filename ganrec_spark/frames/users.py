"""Some users of many, and their rows of tables that are sorted by user."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.lake.held import at_hand

_VALUES = 200  # of a longer list Iceberg does not ask which files and row groups have one of them
_FEW = 2000  # of more users most row groups have one


@dataclass(frozen=True)
class Users:
    """`n` users (user_idx); `few` are their indices where they are few enough to be named in a filter."""

    rows: DataFrame
    n: int
    few: tuple[int, ...]

    @classmethod
    def of(cls, rows: DataFrame) -> "Users":
        """Return the users of the rows, each once. Driver memory: the users."""
        ids = rows.select("user_idx").distinct().toArrow().sort_by("user_idx")
        few = tuple(ids["user_idx"].to_pylist()) if ids.num_rows <= _FEW else ()
        return cls(rows.sparkSession.createDataFrame(ids), ids.num_rows, few)

    def keep(self, rows: DataFrame) -> DataFrame:
        """Return rows of these users, made once and kept: few users' at hand, many's by Spark."""
        return at_hand(rows) if self.few else rows.localCheckpoint()

    def rows_of(self, table: DataFrame) -> DataFrame:
        """Return the users' rows of a table. Of a table that is sorted by user few users' row groups alone are read."""
        if self.few:
            parts = [self.few[first : first + _VALUES] for first in range(0, self.n, _VALUES)]
            # As text: a Column asks the JVM once for each of its values.
            return table.where(" OR ".join(f"user_idx IN ({', '.join(map(str, part))})" for part in parts))
        return table.join(F.broadcast(self.rows), "user_idx", "left_semi")
