"""Audiences: people of whom no rating is known, whom the same lists serve; `anyone`, everybody, is the first.

Their lists stand in the tables of candidates under an index of the audience's own, below 0.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

AUDIENCES = {"anyone": -1}


def with_audience(users: DataFrame) -> DataFrame:
    """Return `users` with `audience`: the user_idx under which the lists stand that serve a user without lists."""
    return users.withColumn("audience", F.lit(AUDIENCES["anyone"]))


def audience_rows(users: DataFrame) -> DataFrame:
    """Return one row (user_idx, items) per audience, who has seen no items, in the form of `users`."""
    rows: list[tuple[int, list[int]]] = [(place, []) for place in AUDIENCES.values()]
    return users.sparkSession.createDataFrame(rows, users.select("user_idx", "items").schema)


def lists_of_audiences(lists: DataFrame) -> DataFrame:
    """Return the audiences' own rows of `lists`, with `audience` in place of user_idx; few enough for a broadcast."""
    own = lists.where(F.col("user_idx").isin(list(AUDIENCES.values())))
    return F.broadcast(own.withColumnRenamed("user_idx", "audience"))
