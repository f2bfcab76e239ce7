"""ALS: two solvers of one objective, the same bits for the same table, and folding in gives user vectors back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from ganrec_spark.errors import TrainingError
from ganrec_spark.frames.histories import histories
from ganrec_spark.lake.store import Lake
from ganrec_spark.recommenders.als import fold_in as fold_in_module
from ganrec_spark.recommenders.als import solver as als
from ganrec_spark.recommenders.als.factors import AlsFactors, arrow_lists
from ganrec_spark.recommenders.als.fold_in import fixed_side, fold_in
from ganrec_spark.recommenders.als.solver import Objective, fit_als

SCHEMA = "user_idx int, item_idx int, rating double"
SMALL = Objective(2, 2, 0.1, 1.0, True, 5)
SOLVERS = pytest.mark.parametrize("solver", ["numpy", "mllib"])


def table(lake: Lake, rows: list[tuple[int, int, float]]) -> DataFrame:
    frame = lake.spark.createDataFrame(rows, SCHEMA).selectExpr("*", "timestamp_seconds(0) AS ts")
    lake.replace("train_ratings", frame, "2026-11-01")
    return lake.read("train_ratings", "2026-11-01")


def random_rows() -> list[tuple[int, int, float]]:
    rng = np.random.default_rng(3)
    picks = [(user, item) for user in range(60) for item in rng.choice(40, size=rng.integers(3, 12), replace=False)]
    # Odd item slots are gaps.
    return [(user, 2 * int(item), float(rng.integers(1, 6))) for user, item in picks]


def user_matrix(fitted: AlsFactors) -> np.ndarray:
    return np.array([row.factors for row in fitted.users.orderBy("user_idx").collect()], dtype=np.float32)


def loss(fitted: AlsFactors, rows: list[tuple[int, int, float]], objective: Objective) -> float:
    """Return what ALS minimises: errors weighted by confidence, and ridges weighted by numbers of ratings."""
    users, (items, known) = user_matrix(fitted).astype(float), fitted.item_slots()
    own, others, ratings = (np.array(column) for column in zip(*rows, strict=True))
    predicted = users @ items.T.astype(float)
    wanted, weights = np.zeros_like(predicted), np.ones_like(predicted) * known
    wanted[own, others] = 1.0 if objective.implicit else ratings
    if not objective.implicit:
        weights[:] = 0
    weights[own, others] = 1 + objective.alpha * ratings if objective.implicit else 1
    counts = np.bincount(own, minlength=len(users)), np.bincount(others, minlength=len(items))
    ridge = sum(float(n @ (side.astype(float) ** 2).sum(1)) for n, side in zip(counts, (users, items), strict=True))
    return float((weights * (wanted - predicted) ** 2).sum()) + objective.regularisation * ridge


@pytest.mark.parametrize("implicit", [True, False])
def test_both_solvers_reach_the_same_loss_and_folding_in_gives_their_user_vectors_back(
    lake: Lake, implicit: bool, tmp_path: Path
) -> None:
    rows = random_rows()
    ratings = table(lake, rows)
    objective = Objective(8, 15, 0.1, 2.0, implicit, 5)
    losses = {}
    for solver in ("numpy", "mllib"):
        fitted = fit_als(ratings, objective, solver, checkpoint_dir=str(tmp_path))
        losses[solver] = loss(fitted, rows, objective)
        # Users are solved last, so their vectors are the answer to the final item vectors.
        known = histories(ratings).orderBy("user_idx").collect()
        items = [np.searchsorted(fitted.item_idx, row["items"]) for row in known]
        values = [np.array(row["ratings"]) for row in known]
        folded = fold_in(fixed_side(fitted.items, implicit), items, values, 0.1, 2.0, implicit)
        assert folded == pytest.approx(user_matrix(fitted), abs=2e-5)
    # Random starts end in different minima of about the same depth.
    assert losses["numpy"] == pytest.approx(losses["mllib"], rel=0.03)
    worse = loss(fit_als(ratings, replace(objective, iterations=1)), rows, objective)
    assert worse > 1.05 * losses["numpy"]


@pytest.mark.parametrize("implicit", [True, False])
def test_half_steps_that_go_on_end_as_low_as_exact_ones(lake: Lake, implicit: bool) -> None:
    rows, objective = random_rows(), Objective(8, 8, 0.1, 20.0, implicit, 5)
    ratings = table(lake, rows)
    found = loss(fit_als(ratings, objective, "numpy"), rows, objective)
    # Alternating exact solutions from the same start.
    own, others, values = (np.array(column) for column in zip(*rows, strict=True))
    users = np.random.default_rng(5).standard_normal((own.max() + 1, 8), dtype=np.float32)
    users /= np.linalg.norm(users, axis=1, keepdims=True)
    items = np.zeros((others.max() + 1, 8), dtype=np.float32)

    def solved(vectors: np.ndarray, whose: np.ndarray, rated: np.ndarray) -> np.ndarray:
        masks = [whose == row for row in range(whose.max() + 1)]
        given = [rated[mask] for mask in masks], [values[mask] for mask in masks]
        return fold_in(fixed_side(vectors, implicit), *given, 0.1, 20.0, implicit)

    for iteration in range(8):
        users = solved(items, own, others) if iteration else users
        items = solved(users, others, own)
    rated = np.unique(others)
    last = pa.table({"user_idx": np.unique(own).astype(np.int32), "factors": arrow_lists(solved(items, own, others))})
    exact = AlsFactors(last, rated.astype(np.int32), items[rated])
    assert found == pytest.approx(loss(exact, rows, objective), rel=0.01)
    worse = loss(fit_als(ratings, replace(objective, iterations=2), "numpy"), rows, objective)
    assert worse > 1.02 * found


@SOLVERS
def test_the_same_table_gives_the_same_vectors_to_the_last_bit(lake: Lake, solver: str) -> None:
    rows, objective = random_rows(), Objective(8, 5, 0.1, 1.0, True, 5)
    rows += [(user, item, -rating / 2) for user, item, rating in rows[::3]]  # the other halves of soft targets
    first = fit_als(table(lake, rows), objective, solver)
    # The same rows from other files in another order.
    second = fit_als(table(lake, rows[::-1]), objective, solver)
    assert first.items.tobytes() == second.items.tobytes()
    assert user_matrix(first).tobytes() == user_matrix(second).tobytes()


@SOLVERS
def test_items_keep_their_slots_and_gaps_have_none(lake: Lake, solver: str) -> None:
    fitted = fit_als(table(lake, [(0, 1, 1.0), (0, 4, 1.0), (3, 4, 1.0)]), SMALL, solver)
    vectors, known = fitted.item_slots()
    assert known.tolist() == [False, True, False, False, True]
    assert vectors[4] == pytest.approx(fitted.items[1])
    assert [row.user_idx for row in fitted.users.orderBy("user_idx").collect()] == [0, 3]


def test_the_drivers_threads_and_sparks_tasks_give_the_same_bits(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    ratings, objective = table(lake, random_rows()), Objective(8, 4, 0.1, 1.0, True, 5)
    monkeypatch.setattr(fold_in_module, "_CELLS", 20)  # tasks, in processes of their own, cut other blocks
    on_driver = fit_als(ratings, objective)
    monkeypatch.setattr(als, "_LOCAL_RATINGS", 0)
    on_executors = fit_als(ratings, objective)
    assert on_driver.items.tobytes() == on_executors.items.tobytes()
    assert user_matrix(on_driver).tobytes() == user_matrix(on_executors).tobytes()


def test_no_rating_to_learn_from_is_one_clear_error(spark: SparkSession) -> None:
    with pytest.raises(TrainingError, match="found none"):
        fit_als(spark.createDataFrame([(0, 0, 0.0)], SCHEMA), SMALL)
