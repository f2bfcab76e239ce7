"""Some users of many, and their rows of tables that are sorted by user."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_FEW = 200  # of a longer list of values Iceberg does not ask which row groups have one


@dataclass(frozen=True)
class Users:
    """`n` users (user_idx); `few` are their indices where they are few enough to be named in a filter."""

    rows: DataFrame
    n: int
    few: tuple[int, ...]

    @classmethod
    def of(cls, rows: DataFrame) -> "Users":
        """Return the users of the rows, each once."""
        kept = rows.select("user_idx").distinct().coalesce(1).localCheckpoint()
        n = kept.count()
        return cls(kept, n, tuple(row.user_idx for row in kept.collect()) if n <= _FEW else ())

    def rows_of(self, table: DataFrame) -> DataFrame:
        """Return the users' rows of a table. Of a table that is sorted by user few users' row groups alone are read."""
        if self.few:
            return table.where(F.col("user_idx").isin(list(self.few)))
        return table.join(F.broadcast(self.rows), "user_idx", "left_semi")
