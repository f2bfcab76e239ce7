"""Who judges what: draws apart where users are many, everyone where they are few, and never the same first ones."""

from itertools import combinations

from pyspark.sql import SparkSession

from ganrec_spark.evaluation.draws import PURPOSES, SCREENING_PARTS, drawn, part


def test_draws_share_no_user_where_there_are_enough_and_take_everyone_where_there_are_not(spark: SparkSession) -> None:
    users = spark.range(1400).selectExpr("CAST(id AS int) AS user_idx").repartition(5)

    def draw(purpose: str, n: int, seed: int = 1) -> set[int]:
        return {row.user_idx for row in drawn(users, purpose, seed, n).collect()}

    # A purpose owns a seventh, of which those that make fills take the third who screen them.
    few = {purpose: draw(purpose, 50) for purpose in PURPOSES}
    assert all(len(own) == 50 for own in few.values())
    assert not any(few[one] & few[other] for one, other in combinations(PURPOSES, 2))
    screen = {row.user_idx for row in users.where(part("gate", 1, SCREENING_PARTS) == 0).collect()}
    assert all(draw(purpose, 300) <= screen for purpose in ("transformer", "generator"))
    # More than a purpose has of its own: its own first, then others'.
    many = {purpose: draw(purpose, 700) for purpose in PURPOSES[:2]}
    assert all(many[purpose] > few[purpose] for purpose in many)
    assert draw("als", 5000) == set(range(1400))
    assert draw("als", 50, seed=2) != few["als"]


def test_parts_are_of_equal_size_and_each_purpose_has_its_own(spark: SparkSession) -> None:
    users = spark.range(3000).selectExpr("CAST(id AS int) AS user_idx")
    rows = users.select("user_idx", part("gate", 1, 3).alias("gate"), part("fold", 1, 2).alias("fold")).collect()
    sizes = [sum(row.gate == place for row in rows) for place in range(3)]
    assert all(900 < size < 1100 for size in sizes)
    # Independent: a third of the gate's parts in each fold.
    assert 400 < sum(row.gate == 0 and row.fold == 0 for row in rows) < 600
