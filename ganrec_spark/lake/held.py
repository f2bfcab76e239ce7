"""Few rows, held by the driver: part of every plan that reads them, so that Spark knows how few they are."""

from pyspark.sql import DataFrame

_FEW = 20_000


def at_hand(rows: DataFrame) -> DataFrame:
    """Return the rows, made once, for plans in which no join shuffles them. Driver memory: the rows, few."""
    if rows.isLocal():
        return rows
    return rows.sparkSession.createDataFrame(rows.toArrow())


def held(rows: DataFrame) -> DataFrame:
    """Return the rows, made once: few at hand, more persisted, to be let go of by `unpersist`.

    Of many the first ones are made twice: how many there are nobody knows before.
    """
    first = rows.limit(_FEW + 1).toArrow()
    return rows.sparkSession.createDataFrame(first) if first.num_rows <= _FEW else rows.persist()
