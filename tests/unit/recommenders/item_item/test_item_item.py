from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from ganrec_spark.config.load import load_config
from ganrec_spark.errors import TrainingError
from ganrec_spark.evaluation.choice import foremost, highest, search
from ganrec_spark.recommenders.item_item import search as item_item_search
from ganrec_spark.recommenders.item_item.fit import ItemItemSetting
from ganrec_spark.recommenders.item_item.grids import half_the_rank, next_lambda, shorter
from ganrec_spark.recommenders.item_item.profiles import profile_matrix
from ganrec_spark.recommenders.item_item.scoring import by_weights
from ganrec_spark.recommenders.item_item.search import Found, ItemItemSearch
from ganrec_spark.recommenders.item_item.sums import near_pairs


@pytest.mark.parametrize(
    ("found", "following"),
    [
        ({100.0: 0.3, 400.0: 0.2}, 25.0),
        ({100.0: 0.2, 400.0: 0.3}, 1600.0),
        ({100.0: 0.3, 400.0: 0.2, 25.0: 0.31}, 6.25),
        ({1.0e30: 0.1, 10.0: 1.0}, 1.0),  # never more than tenfold
        ({100.0: 0.3, 400.0: 0.2, 25.0: 0.29}, None),  # neighbours on both sides
        ({10.0: 1.0, 1.0: 1.0, 100.0: 0.5}, None),  # of equals the first
        ({100.0: 0.3}, None),
        ({float(n): float(n) for n in range(1, 8)}, None),  # enough
    ],
)
def test_the_search_for_lambda_goes_on_beyond_the_better_edge(
    found: dict[float, float], following: float | None
) -> None:
    judged = {value: np.array([ndcg]) for value, ndcg in found.items()}
    assert next_lambda(highest(judged), judged) == following


@pytest.mark.parametrize(
    ("values", "best", "tried"),
    [
        ({None: 0.5, 8.0: 0.4, 2.0: 0.3}, None, [None, 8.0, 2.0]),
        ({None: 0.3, 8.0: 0.5, 2.0: 0.4}, 8.0, [None, 8.0, 2.0]),
        ({None: 0.3, 8.0: 0.4, 2.0: 0.5, 1.0: 0.6, 0.5: 0.55}, 1.0, [None, 8.0, 2.0, 1.0, 0.5]),
        ({None: 0.1, 8.0: 0.2, 2.0: 0.3, 1.0: 0.4, 0.5: 0.5, 0.25: 0.6}, 0.25, [None, 8.0, 2.0, 1.0, 0.5, 0.25]),
    ],
)
def test_the_search_for_the_half_life_goes_on_while_the_shortest_is_the_best(
    values: dict[float | None, float], best: float | None, tried: list[float | None]
) -> None:
    found: list[float | None] = []

    def judge(value: float | None) -> NDArray[np.float64]:
        found.append(value)
        return np.array([values[value]])

    assert search((None, 8.0, 2.0), judge, foremost, shorter) == best
    assert found == tried


@pytest.mark.parametrize(
    ("values", "best", "tried"),
    [
        ({256: 0.3, 128: 0.2}, 256, [256, 128]),
        ({256: 0.3, 128: 0.4, 64: 0.5, 32: 0.5}, 64, [256, 128, 64, 32]),  # of equals the larger
        ({40: 0.1, 20: 0.2}, 20, [40, 20]),  # no fewer than 16
        ({4: 0.1}, 4, [4]),
    ],
)
def test_the_rank_is_halved_while_that_is_better(values: dict[int, float], best: int, tried: list[int]) -> None:
    found: list[int] = []

    def judge(rank: int) -> NDArray[np.float64]:
        found.append(rank)
        return np.array([values[rank]])

    assert search([max(values)], judge, foremost, half_the_rank) == best
    assert found == tried


def test_a_profile_fades_by_half_in_each_half_life() -> None:
    block = pa.RecordBatch.from_pydict(
        {
            "items": pa.array([[3, 5, 8], [], [5]], pa.list_(pa.int32())),
            "ratings": pa.array([[1.0, 1.0, 0.5], [], [1.0]], pa.list_(pa.float32())),
            "ages": pa.array([[4, 0, 2], [], [0]], pa.list_(pa.int32())),
        }
    )
    axis = np.array([3, 5, 7, 8], dtype=np.int32)
    assert profile_matrix(block, axis).toarray().tolist() == [[1, 1, 0, 0.5], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert profile_matrix(block, axis, 2.0).toarray().tolist() == [[0.25, 1, 0, 0.25], [0, 0, 0, 0], [0, 1, 0, 0]]
    scores = by_weights(axis, np.eye(4, dtype=np.float32), 2.0)(block)
    assert scores[0, axis].tolist() == [0.25, 1, 0, 0.25]


def test_near_pairs_are_those_of_a_dense_kernel() -> None:
    rng = np.random.default_rng(6)
    lengths = [7, 1, 0, 12]
    items = [np.sort(rng.choice(30, n, replace=False)) for n in lengths]
    ages = [rng.permutation(n) // 2 for n in lengths]  # two items of each time
    values = [rng.choice([0.3, 1.0], n) for n in lengths]
    block = pa.RecordBatch.from_pydict(
        {
            "items": pa.array(items, pa.list_(pa.int32())),
            "ratings": pa.array(values, pa.list_(pa.float32())),
            "ages": pa.array(ages, pa.list_(pa.int32())),
        }
    )
    expected = np.zeros((30, 30))
    for own, age, value in zip(items, ages, values, strict=True):
        gaps = np.abs(age[:, None] - age[None, :])
        kernel = np.where(gaps <= 0.5 * 6.7, 0.5 ** (gaps / 0.5), 0)
        expected[np.ix_(own, own)] += kernel * value[:, None] * value[None, :]
    found = near_pairs(block, np.arange(30, dtype=np.int32), 0.5).toarray()
    assert found == pytest.approx(np.triu(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        # Not with the first lambda, but with the best one, which they do not help.
        ({(100, None): 0.183, (400, None): 0.205, (400, 10): 0.180, (1600, None): 0.19}, (400, None)),
        ({(100, None): 0.061, (400, None): 0.059, (25, None): 0.060, (100, 10): 0.064}, (100, 10)),
        # As good is not ahead.
        ({(100, None): 0.200, (400, None): 0.190, (25, None): 0.190, (100, 10): 0.200}, (100, None)),
    ],
)
def test_pairs_in_time_are_tried_with_the_best_lambda(
    monkeypatch: pytest.MonkeyPatch, found: dict[tuple[float, float | None], float], chosen: tuple[float, float | None]
) -> None:
    search = searched(monkeypatch, found, ("ease_regularisation", "pair_half_life_visits"), timed=True, differ=False)
    setting, weights = search.best
    assert tuple(weights.values()) == chosen
    assert (setting["ease_regularisation"], setting.get("pair_half_life_visits")) == chosen
    assert setting["history_half_life_visits"] == 2.0
    assert len(search.tried) == len(found)


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        # Ratings that count by their height help the best lambda, damping then does not.
        (
            {(100, 0, 0): 0.2, (400, 0, 0): 0.1, (25, 0, 0): 0.1, (100, 0.2, 0): 0.21, (100, 0.2, 0.3): 0.1},
            (100, 0.2, 0),
        ),
        # They do not, so what follows is without them.
        ({(100, 0, 0): 0.2, (400, 0, 0): 0.1, (25, 0, 0): 0.1, (100, 0.2, 0): 0.2, (100, 0, 0.3): 0.3}, (100, 0, 0.3)),
    ],
)
def test_the_slope_of_ratings_and_damping_are_tried_with_the_best_lambda(
    monkeypatch: pytest.MonkeyPatch, found: dict[tuple[float, ...], float], chosen: tuple[float, ...]
) -> None:
    keys = ("ease_regularisation", "rating_slope", "ease_damping")
    search = searched(monkeypatch, found, keys, timed=False, differ=True)
    setting, weights = search.best
    assert tuple(weights.values()) == chosen
    assert tuple(setting.get(key, 0) for key in keys) == chosen
    assert len(search.tried) == len(found)
    # The other methods read ratings as EASE found best.
    assert search.shared({"method": "gfcf"}).get("rating_slope", 0) == chosen[1]


def test_all_ratings_alike_have_no_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {(100, 0): 0.2, (400, 0): 0.1, (25, 0): 0.1, (100, 0.3): 0.1}
    search = searched(monkeypatch, found, ("ease_regularisation", "ease_damping"), timed=False, differ=False)
    assert len(search.tried) == len(found)
    assert all("rating_slope" not in setting for setting, _ in search.tried)


def searched(
    monkeypatch: pytest.MonkeyPatch,
    found: dict[tuple[Any, ...], float],
    keys: tuple[str, ...],
    timed: bool,
    differ: bool,
) -> ItemItemSearch:
    """Return the search of EASE's settings, without Spark, where `found` is the NDCG by the values of `keys`."""

    def fitted(setting: ItemItemSetting) -> dict[str, Any]:
        return {key: setting.get(key, None if key == "pair_half_life_visits" else 0) for key in keys}

    def ndcg(judged: list[float], weights: dict[str, Any], k: int) -> NDArray[np.float64]:
        assert judged == [weights.get("rating_slope", 0)]  # whose ratings count as those that were fitted
        return np.array([found[tuple(weights.values())]])

    search = made(monkeypatch, fitted, ndcg, timed, differ, "[0.0, 0.3]" if "ease_damping" in keys else "[0.0]")
    search._history = 2.0
    search.method([{"method": "ease", "ease_regularisation": 100.0}, {"method": "ease", "ease_regularisation": 400.0}])
    return search


def made(
    monkeypatch: pytest.MonkeyPatch,
    fit: Callable[[ItemItemSetting], Any],
    ndcg: Callable[[list[float], Any, int], NDArray[np.float64]],
    timed: bool = False,
    differ: bool = False,
    damping: str = "[0.0]",
) -> ItemItemSearch:
    """Return a search without Spark; those who judge are a list of their slope."""
    fitter = SimpleNamespace(fit=fit, keep=lambda slope: None)
    monkeypatch.setattr(item_item_search, "Fitter", lambda *arguments: fitter)
    monkeypatch.setattr(item_item_search, "by_weights", lambda axis, weights, half_life: weights)
    monkeypatch.setattr(item_item_search, "by_score", lambda weights: weights)
    monkeypatch.setattr(item_item_search, "judged_ndcg", ndcg)
    monkeypatch.setattr(item_item_search, "has_ages", lambda judged: timed)
    monkeypatch.setattr(item_item_search, "ratings_differ", lambda ratings: differ)
    monkeypatch.setattr(ItemItemSearch, "judges", lambda self, slope: [slope])
    config = load_config(overrides=[f"item_item.ease_damping={damping}"], environ={})
    return ItemItemSearch(config.item_item, None, np.arange(3, dtype=np.int32), None, 1, lambda text: None)


def test_a_trial_that_cannot_be_fitted_leaves_the_best_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(setting: ItemItemSetting) -> float:
        if (
            setting.keys() & {"rating_slope", "ease_damping", "pair_half_life_visits"}
            or setting["ease_regularisation"] < 100
        ):
            raise TrainingError("not positive definite")
        return float(setting["ease_regularisation"])

    search = made(
        monkeypatch,
        fit,
        lambda judged, weights, k: np.array([1 / weights]),
        timed=True,
        differ=True,
        damping="[0.0, 0.3]",
    )
    search.method([{"method": "ease", "ease_regularisation": 100.0}, {"method": "ease", "ease_regularisation": 400.0}])
    assert search.best == ({"method": "ease", "ease_regularisation": 100.0}, 100.0)


@pytest.mark.parametrize(
    ("quarter", "half", "noise", "chosen"),
    [
        (0.201, 0.203, 0.0, "ease+gfcf"),
        (0.19, 0.18, 0.0, "ease"),
        # A difference of .01 between four judges who differ by .04 is half a standard error.
        (0.18, 0.19, 0.04, "ease+gfcf"),
        (0.1, 0.11, 0.04, "ease"),
    ],
)
def test_the_better_mixture_of_the_two_best_is_taken_unless_the_best_is_ahead(
    monkeypatch: pytest.MonkeyPatch, quarter: float, half: float, noise: float, chosen: str
) -> None:
    monkeypatch.setattr(item_item_search, "mixed", lambda first, second, share: (first, second, round(share, 6)))
    monkeypatch.setattr(ItemItemSearch, "_spread", lambda self, weights: {"EASE": 6.0, "GFCF": 2.0}[weights])
    # A share of a quarter is a third of the best one's, and the second's scores are a third as far apart.
    found = {("EASE", "GFCF", 1.0): quarter, ("EASE", "GFCF", 3.0): half}
    spread = np.array([noise, -noise, noise, -noise])
    search = made(monkeypatch, lambda setting: None, lambda judged, weights, k: found[weights] + spread)
    search._best = {
        "ease": Found(np.full(4, 0.200), {"method": "ease", "ease_regularisation": 9.0}, "EASE"),
        "rp3beta": Found(np.full(4, 0.1), {"method": "rp3beta", "rp3_beta": 0.3}, "RP3"),
        "gfcf": Found(np.full(4, 0.190), {"method": "gfcf", "gfcf_rank": 32}, "GFCF"),
    }
    search.mix((0.25, 0.5))
    setting, _ = search.best
    assert setting["method"] == chosen
    assert setting["ease_regularisation"] == 9.0
    assert (setting.get("gfcf_rank"), setting.get("second_weight")) == ((32, 3.0) if "+" in chosen else (None, None))


@pytest.mark.parametrize(
    ("listed", "judged", "chosen"),
    [
        ("[0.0, 1.0, 3.0]", {1.0: 0.25, 3.0: 0.24}, 1.0),
        ("[0.0, 1.0, 3.0]", {1.0: 0.25, 3.0: 0.26}, 3.0),
        ("[0.0, 1.0, 3.0]", {1.0: 0.19, 3.0: 0.20}, None),
        ("[2.0]", {2.0: 0.1}, 2.0),  # without alternatives it is taken as it is
        ("[0.0]", {}, None),
    ],
)
def test_items_that_are_alike_count_more_where_judges_are_ahead_with_it(
    monkeypatch: pytest.MonkeyPatch, listed: str, judged: dict[float, float], chosen: float | None
) -> None:
    search = made(monkeypatch, lambda setting: None, lambda users, weights, k: np.array([judged[weights[1]]] * 2))
    search._config = load_config(overrides=[f"item_item.likeness={listed}"], environ={}).item_item
    plain = Found(np.full(2, 0.2), {"method": "rp3beta", "rp3_beta": 0.3}, "RP3")
    search._best = {"rp3beta": plain}
    search.likeness()
    assert search.best == (plain.setting, plain.weights), "nothing is known of items"
    search._alike = SimpleNamespace(believed=lambda weights, strength: (weights, strength))
    search.likeness()
    with_it = (plain.setting | {"likeness": chosen}, ("RP3", chosen))
    assert search.best == ((plain.setting, "RP3") if chosen is None else with_it)
