"""Groups of items: shares worked out by hand."""

import pytest
from pyspark.sql import SparkSession

from ganrec_spark.evaluation.item_groups import item_groups
from ganrec_spark.reporting.sections import fairness

# Items 1 to 4; nobody has rated 4, and of 3 no genre is known. Nothing at all is known of 5, which is rated.
RATINGS = [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (1, 3), (1, 5)]
LISTS = [(1, 4), (2, 3), (2, 4), (3, 2)]
ATTRIBUTES = [(1, "genre", "a"), (2, "genre", "a"), (2, "genre", "b"), (4, "genre", "b"), (3, "colour", "red")]
ATTRIBUTES += [(item, "title", f"t{item}") for item in (1, 2, 3, 4)]
COLUMNS = [("item", "genre", "values"), ("item", "colour", "category"), ("item", "title", "text")]
COLUMNS += [("user", "genre", "category")]


def groups(spark: SparkSession, attributes: list[tuple], lists: list[tuple]) -> dict[tuple[str, str], tuple]:
    pairs = "user_idx int, item_idx int"
    found = item_groups(
        spark.createDataFrame(lists, pairs),
        spark.createDataFrame(RATINGS, pairs),
        spark.createDataFrame(attributes, "item_idx int, name string, value string"),
        spark.createDataFrame(COLUMNS, "role string, name string, kind string"),
    )
    return {tuple(row[:2]): tuple(row[2:]) for row in found.collect()}


def test_shares_are_those_worked_out_by_hand(spark: SparkSession) -> None:
    found = groups(spark, ATTRIBUTES, LISTS)
    # (items, listed, users, share of the catalogue, of ratings, of lists); item 2 is half a and half b.
    assert found.pop(("genre", "a")) == pytest.approx((2, 1, 1, 1.5 / 5, 4 / 7, 0.5 / 4))
    assert found.pop(("genre", "b")) == pytest.approx((2, 2, 3, 1.5 / 5, 1 / 7, 2.5 / 4))
    assert found.pop(("genre", "(none)")) == pytest.approx((2, 1, 1, 2 / 5, 2 / 7, 1 / 4))
    assert found.pop(("colour", "red")) == pytest.approx((1, 1, 1, 1 / 5, 1 / 7, 1 / 4))
    assert found.pop(("colour", "(none)")) == pytest.approx((4, 2, 3, 4 / 5, 6 / 7, 3 / 4))
    assert found.pop(("rated", "yes")) == pytest.approx((4, 2, 2, 4 / 5, 1, 2 / 4))
    assert found.pop(("rated", "no")) == pytest.approx((1, 1, 2, 1 / 5, 0, 2 / 4))
    assert found == {}


def test_of_many_values_those_of_most_items_are_groups_and_names_are_none(spark: SparkSession) -> None:
    rare = [(item, "genre", f"rare {item}") for item in range(10, 30)]
    common = [(item, "genre", "common") for item in range(100, 130)]
    names = [(item, "colour", f"its own {item}") for item in range(10, 60)]
    found = groups(spark, [*rare, *common, *names], [])
    assert found["genre", "common"][:4] == pytest.approx((30, 0, 0, 30 / 84))
    assert found["genre", "(others)"][0] == 1
    assert not any(column == "colour" for column, _ in found), "30 of 50 items have a value that is none of the 20"


def test_the_report_tells_new_items_and_groups() -> None:
    names = ("column", "part", "n_items", "n_listed", "n_users", "catalogue_share", "rating_share", "list_share")
    rows = [
        dict(zip(names, row, strict=True))
        for row in (
            ("rated", "yes", 90, 80, 900, 0.9, 1.0, 0.98),
            ("rated", "no", 10, 4, 120, 0.1, 0.0, 0.02),
            ("genre", "a<b", 60, 50, 800, 0.6, 0.7, 0.8),
            ("genre", "(none)", 40, 34, 300, 0.4, 0.3, 0.2),
        )
    ]
    html = fairness(rows).html
    assert "Of 10 items that nobody has rated 4 (40.0%) are listed at least once, to 120 users" in html
    assert html.index("a&lt;b") < html.index("(none)")
    assert "80.0%" in html
    assert html.count("<figure>") == 1
    assert "Nothing is known" in fairness(rows[:1]).html
    assert "Nothing is known" in fairness([]).html
