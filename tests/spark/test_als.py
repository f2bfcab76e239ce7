"""MLlib's ALS: what it fits, that it repeats itself, and that folding in gives its own vectors back."""

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from ganrec_spark.distributed.als import AlsFactors, fit_als
from ganrec_spark.distributed.ranking import histories
from ganrec_spark.errors import TrainingError
from ganrec_spark.lake import Lake
from ganrec_spark.models.als_fold_in import fold_in

SCHEMA = "user_idx int, item_idx int, rating double"


def table(lake: Lake, rows: list[tuple[int, int, float]]) -> DataFrame:
    frame = lake.spark.createDataFrame(rows, SCHEMA).selectExpr("*", "timestamp_seconds(0) AS ts")
    lake.replace("train_ratings", frame, "als")
    return lake.read("train_ratings", "als")


def random_rows() -> list[tuple[int, int, float]]:
    rng = np.random.default_rng(3)
    picks = [(user, item) for user in range(60) for item in rng.choice(40, size=rng.integers(3, 12), replace=False)]
    # Odd item slots are gaps.
    return [(user, 2 * int(item), float(rng.integers(1, 6))) for user, item in picks]


def user_matrix(fitted: AlsFactors) -> np.ndarray:
    return np.array([row.factors for row in fitted.users.orderBy("user_idx").collect()], dtype=np.float32)


@pytest.mark.parametrize("implicit", [True, False])
def test_folding_in_gives_mllibs_user_vectors_back(lake: Lake, implicit: bool) -> None:
    # MLlib solves users last, so its user vectors are the answer to its final item vectors.
    ratings = table(lake, random_rows())
    fitted = fit_als(ratings, 8, 3, 0.1, 2.0, implicit, 5)
    known = histories(ratings).orderBy("user_idx").collect()
    items = [np.searchsorted(fitted.item_idx, row["items"]) for row in known]
    values = [np.array(row["ratings"]) for row in known]
    folded = fold_in(fitted.items, items, values, 0.1, 2.0, implicit)
    assert folded == pytest.approx(user_matrix(fitted), abs=2e-5)


def test_the_same_table_gives_the_same_vectors_to_the_last_bit(lake: Lake) -> None:
    rows = random_rows()
    first = fit_als(table(lake, rows), 8, 5, 0.1, 1.0, True, 5)
    # The same rows from other files in another order.
    second = fit_als(table(lake, rows[::-1]), 8, 5, 0.1, 1.0, True, 5)
    assert first.items.tobytes() == second.items.tobytes()
    assert user_matrix(first).tobytes() == user_matrix(second).tobytes()


def test_items_keep_their_slots_and_gaps_have_none(lake: Lake) -> None:
    fitted = fit_als(table(lake, [(0, 1, 1.0), (0, 4, 1.0), (3, 4, 1.0)]), 2, 2, 0.1, 1.0, True, 5)
    vectors, known = fitted.item_slots()
    assert known.tolist() == [False, True, False, False, True]
    assert vectors[4] == pytest.approx(fitted.items[1])


def test_no_rating_to_learn_from_is_one_clear_error(lake: Lake, spark: SparkSession) -> None:
    with pytest.raises(TrainingError, match="found none"):
        fit_als(spark.createDataFrame([(0, 0, 0.0)], SCHEMA), 2, 2, 0.1, 1.0, True, 5)
