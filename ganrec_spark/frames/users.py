"""Some users of many, and their rows of tables that are sorted by user."""

from dataclasses import dataclass
from functools import reduce
from operator import or_

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

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
        """Return the users of the rows, each once."""
        kept = rows.select("user_idx").distinct().coalesce(1).localCheckpoint()
        n = kept.count()
        return cls(kept, n, tuple(sorted(row.user_idx for row in kept.collect())) if n <= _FEW else ())

    def rows_of(self, table: DataFrame) -> DataFrame:
        """Return the users' rows of a table. Of a table that is sorted by user few users' row groups alone are read."""
        if self.few:
            parts = [self.few[first : first + _VALUES] for first in range(0, self.n, _VALUES)]
            return table.where(reduce(or_, (F.col("user_idx").isin(list(part)) for part in parts)))
        return table.join(F.broadcast(self.rows), "user_idx", "left_semi")
