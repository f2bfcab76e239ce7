"""Attributes become features: which of a list of names each user or item has, and with what weight.

A category, one of several values and a token of a text are a feature each; of a number and a date the tenth of all
that it falls into. Within one column weights are those of TF-IDF (Salton & Buckley 1988) where one row can have
several values, and have length 1, so that a column with many values does not outweigh one with a single value.
"""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ganrec_spark.attributes.kinds import DATE, NUMBER, TEXT, VALUES
from ganrec_spark.lake.stage_lake import StageLake

_TENTHS = [place / 10 for place in range(1, 10)]
_ROWS = "idx int, places array<int>, weights array<float>"
_LEAST = 2  # a feature of one row alone says nothing of others
_NO_TOKEN = r"[^\p{L}\p{N}]+"


@dataclass(frozen=True)
class Features:
    """Rows (idx, places array<int>, weights array<float>), places ascending; those without a feature are not there.

    `names`: (column, what) of each place, where what is the value, the token, or `from <lower end>`.
    """

    rows: DataFrame
    names: list[tuple[str, str]]


def features_of(lake: StageLake, role: str, most: int) -> Features:
    """Return the features of users or items (`role`), the `most` frequent ones that at least two rows have.

    Sensitive columns give none. Driver memory: the names.
    """
    columns = lake.read("attribute_columns").where((F.col("role") == role) & ~F.col("sensitive"))
    kinds = columns.select("name", "kind")
    if kinds.isEmpty():
        return Features(lake.read(f"{role}_attributes").sparkSession.createDataFrame([], _ROWS), [])
    values = lake.read(f"{role}_attributes").withColumnRenamed(f"{role}_idx", "idx").join(F.broadcast(kinds), "name")
    counts = (
        _words(values).groupBy("idx", "name", "what").agg(F.count("*").alias("times"), F.first("kind").alias("kind"))
    )
    held = counts.groupBy("name", "what").agg(F.count("*").alias("n")).where(F.col("n") >= _LEAST)
    first = held.orderBy(F.desc("n"), "name", "what").limit(most).toPandas()
    places = first.reset_index(names="place")[["name", "what", "n", "place"]]
    spark = values.sparkSession
    known = F.broadcast(spark.createDataFrame(places, "name string, what string, n bigint, place int"))
    n_rows = values.select("idx").distinct().count()
    rarity = F.log(F.lit(float(n_rows)) / F.col("n"))
    own = counts.join(known, ["name", "what"]).withColumn(
        "weight", F.when(F.col("kind").isin(VALUES, TEXT), (1 + F.log("times")) * rarity).otherwise(1.0)
    )
    length = F.sqrt(F.sum(F.col("weight") ** 2).over(Window.partitionBy("idx", "name")))
    scaled = own.withColumn("weight", F.when(length > 0, F.col("weight") / length).otherwise(0.0))
    pairs = F.sort_array(F.collect_list(F.struct("place", F.col("weight").cast("float").alias("weight"))))
    rows = scaled.groupBy("idx").agg(pairs.alias("pairs"))
    rows = rows.select("idx", F.col("pairs.place").alias("places"), F.col("pairs.weight").alias("weights"))
    return Features(rows, list(zip(first["name"], first["what"], strict=True)))


def _words(values: DataFrame) -> DataFrame:
    """Return a row (idx, name, kind, what) for each value: itself, a text's tokens, the tenth a number falls into."""
    numeric = F.col("kind").isin(NUMBER, DATE)
    ends = values.where(numeric).groupBy("name").agg(F.percentile_approx("number", _TENTHS, 10_000).alias("ends"))
    joined = values.join(F.broadcast(ends), "name", "left")
    tokens = F.filter(F.split(F.lower("value"), _NO_TOKEN), lambda token: F.length(token) > 0)
    what = F.when(numeric, F.array(_tenth())).when(F.col("kind") == TEXT, tokens).otherwise(F.array("value"))
    return joined.select("idx", "name", "kind", F.explode(what).alias("what")).where(F.col("what").isNotNull())


def _tenth() -> Column:
    """Return `from <the largest lower end that the number reaches>`; equal ends are one."""
    below = F.filter("ends", lambda end: end <= F.col("number"))
    return F.when(F.size(below) > 0, F.concat(F.lit("from "), F.array_max(below).cast("string"))).otherwise(
        F.lit("least")
    )
