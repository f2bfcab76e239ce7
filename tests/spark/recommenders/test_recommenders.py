"""popularity, als and item_item on worlds where the right lists are known."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy import sparse

from ganrec_spark.config.sections import Config
from ganrec_spark.frames.histories import with_ages
from ganrec_spark.lake.store import Lake
from ganrec_spark.recommenders.item_item import search as item_item_search
from ganrec_spark.recommenders.item_item import slabs
from ganrec_spark.recommenders.item_item import sums as item_item
from ganrec_spark.recommenders.item_item.fit import Fitter
from ganrec_spark.recommenders.item_item.profiles import item_axis, profiles
from ganrec_spark.recommenders.item_item.weights import products

RUN = "2026-11-01"
Pair = tuple[int, int, float]
Rows = list[Pair]
RunAlone = Callable[..., list[str]]


def write(
    lake: Lake, merged: Rows, validation: Sequence[Pair] = (), generated: Sequence[Pair] = (), phase: str = "choose"
) -> None:
    """Write the tables that the recommenders read."""
    spark = lake.spark

    def frame(rows: Sequence[Pair], observed: bool, fill: str) -> DataFrame:
        schema = "user_idx int, item_idx int, rating double"
        extra = f"timestamp_seconds(0) AS ts, {observed} AS observed, '{fill}' AS fill"
        return spark.createDataFrame(list(rows), schema).selectExpr("*", *extra.split(", "))

    observed, filled = frame(merged, True, "none"), frame(generated, False, "vae:top-1")
    lake.replace("merged_ratings", observed.unionByName(filled), RUN, phase)
    lake.replace("train_ratings", observed.drop("observed", "fill"), RUN)
    lake.replace("validation_ratings", frame(validation, True, "none").drop("observed", "fill"), RUN)
    users = observed.groupBy("user_idx").agg(F.count("*").cast("int").alias("n_ratings"))
    sparsity = users.selectExpr(
        "*", "0D AS density", "0D AS days_since_last", "0D AS percentile", "'' AS bucket", "user_idx < 2 AS is_sparse"
    )
    lake.replace("user_sparsity", sparsity, RUN)


def checkerboard(n: int = 24) -> Rows:
    """Even users like even items, odd users odd ones; the diagonal is withheld, so user u's best unseen item is u."""
    return [(u, i, 1.0) for u in range(n) for i in range(n) if u != i and (u - i) % 2 == 0]


def lists(lake: Lake, table: str, fill: str = "none", phase: str = "choose") -> dict[int, list[int]]:
    rows = lake.read(table, RUN, phase).where(f"fill = '{fill}'").collect()
    return {row.user_idx: list(row["items"]) for row in rows}


def assert_unseen(found: dict[int, list[int]], merged: Rows) -> None:
    seen = {(u, i) for u, i, _ in merged}
    assert not any((u, i) in seen for u, items in found.items() for i in items)


MEMBERS = [
    ("als", ("als.embedding_size=[8]", "als.regularisation=[0.1]", "als.alpha=[10.0]", "als.rating_scale=[log]")),
    ("item_item", ("item_item.method=ease", "item_item.ease_regularisation=[10.0]")),
    ("item_item", ("item_item.method=rp3beta", "item_item.rp3_beta=[0.3]")),
    ("item_item", ("item_item.method=gfcf", "item_item.gfcf_rank=4", "item_item.gfcf_weight=[0.3]")),
]


@pytest.mark.parametrize(("member", "settings"), MEMBERS, ids=["als", "ease", "rp3beta", "gfcf"])
def test_checkerboard(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone, member: str, settings: tuple[str, ...]
) -> None:
    merged = checkerboard()
    # A generated row of another parity must not count as seen, and reaches only the lists of its fill.
    write(lake, merged, validation=[(u, u, 1.0) for u in range(24)], generated=[(0, 7, 0.3)])
    config = make_config(*settings)
    run_alone(config, *(["als_setting"] if member == "als" else []), f"{member}_choose")
    found = lists(lake, f"{member}_candidates")
    assert {user: items[0] for user, items in found.items()} == {user: user for user in range(24)}
    assert_unseen(found, merged)
    if member == "als":
        filled = lists(lake, "als_candidates", "vae:top-1")
        assert filled.keys() == found.keys()
        assert_unseen(filled, merged)
        assert 7 in filled[0]
        # Only sparse users' lists come from the filled fit; all others have the very same list without it.
        assert {user: filled[user] for user in range(2, 24)} == {user: found[user] for user in range(2, 24)}


def test_validation_chooses_and_final_follows(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone
) -> None:
    merged = checkerboard()
    write(lake, merged, validation=[(u, u, 1.0) for u in range(24)])
    # So large a ridge leaves no weight in single precision: every unseen item ties.
    config = make_config(
        "als.embedding_size=[8]", "als.alpha=[10.0]", "als.regularisation=[1.0e+30,0.1]", "als.rating_scale=[raw]",
        "item_item.ease_regularisation=[1.0e+30,10.0]", "item_item.ease_damping=[0.0]",
        "item_item.rp3_beta=[0.3]", "item_item.gfcf_rank=4",
    )  # fmt: skip
    run_alone(config, "als_setting", "als_choose", "item_item_choose")
    settings = lake.read("als_choices", RUN, "choose").collect()
    ridge = {json.loads(row.parameters)["regularisation"]: row for row in settings}
    # The smaller ridge was better, so a quarter of it was tried: no better.
    assert ridge.keys() == {1e30, 0.1, 0.025}
    assert [value for value, row in ridge.items() if row.chosen] == [0.1]
    assert ridge[0.1].ndcg == pytest.approx(1.0)
    tried = lake.read("item_item_choices", RUN, "choose").collect()
    # The best lambda was the smaller one, so a third was tried: no better.
    assert [json.loads(row.parameters)["method"] for row in tried].count("ease") == 3
    # No mixture can be better than all there is.
    assert {json.loads(row.parameters)["method"] for row in tried} > {"ease", "rp3beta", "gfcf"}
    alone = [row for row in tried if "second_weight" not in row.parameters]
    ease = {json.loads(row.parameters).get("ease_regularisation"): row for row in alone}
    assert ease[10.0].chosen
    assert ease[10.0].ndcg == pytest.approx(1.0)
    assert not ease[1e30].chosen
    write(lake, merged, validation=[(0, 0, 1.0)], phase="final")
    run_alone(config, "als_final", "item_item_final")
    chosen = lake.read("item_item_choices", RUN, "choose").where("chosen").first()
    assert [row.parameters for row in lake.read("item_item_choices", RUN, "final").collect()] == [chosen.parameters]
    assert lists(lake, "als_candidates", phase="final")[5][0] == 5
    assert lists(lake, "item_item_candidates", phase="final")[5][0] == 5


def test_two_methods_are_mixed_where_neither_knows_all(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which of two is ahead is said by hand: never the best method, then always.
    rng = np.random.default_rng(0)
    merged = [(u, i, 1.0) for u in range(60) for i in range(40) if rng.random() < (0.5 if (u + i) % 3 else 0.15)]
    held = {u: [i for i in range(40) if (u + i) % 3 and (u, i, 1.0) not in merged] for u in range(60)}
    write(lake, merged, validation=[(u, items[0], 1.0) for u, items in held.items() if items])
    config = make_config(
        "item_item.ease_regularisation=[10.0]", "item_item.ease_damping=[0.0]",
        "item_item.rp3_beta=[0.3]", "item_item.gfcf_rank=4",
        "item_item.gfcf_weight=[0.3]", "item_item.mix_shares=[0.25,0.5]",
    )  # fmt: skip
    for ahead, name in ((False, "always"), (True, "never")):
        monkeypatch.setattr(item_item_search, "is_ahead", lambda first, second, ahead=ahead: ahead)
        run_alone(config, "item_item_choose")
        rows = lake.read("item_item_choices", RUN, "choose").collect()
        tried = {row.parameters: row.ndcg for row in rows}
        alone = {text: ndcg for text, ndcg in tried.items() if "second_weight" not in text}
        mixtures = {text: ndcg for text, ndcg in tried.items() if "second_weight" in text}
        assert len(alone) == 3
        assert len(mixtures) == 2
        best_two = sorted(alone, key=lambda text: -alone[text])[:2]
        methods = "+".join(json.loads(text)["method"] for text in best_two)
        assert {json.loads(text)["method"] for text in mixtures} == {methods}
        (chosen,) = [row for row in rows if row.chosen]
        if name == "never":
            assert chosen.parameters == best_two[0]
        else:
            assert chosen.ndcg == max(mixtures.values())
    # Phase final fits the mixture that it is told, from its own ratings.
    mixture = json.loads(max(mixtures))
    fitter = Fitter(config.item_item, 1, lake.read("merged_ratings", RUN, "choose"), np.arange(40, dtype=np.int32))
    first, second = (fitter.fit(mixture | {"method": method}) for method in methods.split("+"))
    whole = sparse.csr_array(np.eye(40, dtype=np.float32))
    expected = products(whole, first) + mixture["second_weight"] * products(whole, second)
    assert products(whole, fitter.fit(mixture)) == pytest.approx(expected, abs=1e-5)


def test_popularity_counts_observed_users_and_serves_anyone(lake: Lake, config: Config, run_alone: RunAlone) -> None:
    merged = [(0, 1, 5.0), (0, 3, 1.0), (1, 3, 1.0), (2, 3, 1.0), (2, 1, 1.0), (1, 5, 1.0)]
    for phase in ("choose", "final"):
        write(lake, merged, generated=[(u, 5, 0.3) for u in (0, 2)], phase=phase)
    run_alone(config, "popularity_choose", "popularity_final")
    # Counts: item 3 has 3 users, item 1 two, item 5 one observed; slots 0, 2, 4 are nobody's. Nobody is asked.
    assert lists(lake, "popularity_candidates") == {-1: [3, 1, 5]}
    assert lists(lake, "popularity_candidates", phase="final") == {-1: [3, 1, 5], 0: [5], 1: [1], 2: [5]}
    # All ratings are of one moment, and nobody is held out: nothing speaks against all time.
    for phase in ("choose", "final"):
        assert lists(lake, "trending_candidates", phase=phase) == lists(lake, "popularity_candidates", phase=phase)
    assert [row.parameters for row in lake.read("trending_choices", RUN, "choose").where("chosen").collect()] == [
        '{"half_life_days": null}'
    ]


@pytest.mark.parametrize(
    ("held_out", "half_life", "order"), [(2, 10.0, [2, 3, 1]), (1, None, [1, 2, 3])], ids=["late", "all time"]
)
def test_trending_follows_the_half_life_that_validation_prefers(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone, held_out: int, half_life: float, order: Any
) -> None:
    # Item 1 has three ratings twenty days old, item 2 two of ten days, item 3 one of now.
    merged = [(u, 1, 1.0) for u in (0, 1, 2)] + [(u, 2, 1.0) for u in (3, 4)] + [(5, 3, 1.0)]
    write(lake, merged, validation=[(9, held_out, 1.0)])
    days = F.when(F.col("item_idx") == 1, 20).when(F.col("item_idx") == 2, 10).otherwise(0)
    then = F.timestamp_seconds(F.lit(10**9) - days * 86_400)
    aged = lake.read("merged_ratings", RUN, "choose").withColumn("ts", then)
    for phase in ("choose", "final"):
        lake.replace("merged_ratings", aged.localCheckpoint(), RUN, phase)
    config = make_config("trending.half_life_days=[10]")
    run_alone(config, "popularity_choose", "popularity_final")
    for phase in ("choose", "final"):
        assert lists(lake, "popularity_candidates", phase=phase)[-1] == [1, 2, 3]
        assert lists(lake, "trending_candidates", phase=phase)[-1] == order
    assert lists(lake, "trending_candidates", phase="final")[0] == [item for item in order if item != 1]
    row = lake.read("trending_choices", RUN, "final").first()
    assert json.loads(row.parameters) == {"half_life_days": half_life}
    assert row.ndcg == 1
    first = lake.read("trending_candidates", RUN, "final").where("user_idx = -1").first()
    # Half of two, one (behind it, for fewer ratings), a half of a half of three.
    assert list(first.scores) == pytest.approx([1.0, 1.0, 0.75] if half_life else [3.0, 2.0, 1.0])


def test_explicit_rmse_of_a_rank_one_world(lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone) -> None:
    rng = np.random.default_rng(4)
    users, items = rng.uniform(1, 2, 40), rng.uniform(1, 2, 30)
    pairs = [(u, i, float(users[u] * items[i])) for u in range(40) for i in range(30)]
    held_out = [pair for pair in pairs if (pair[0] + pair[1]) % 5 == 0]
    write(lake, [pair for pair in pairs if (pair[0] + pair[1]) % 5], validation=held_out)
    run_alone(
        make_config("als.implicit=false", "als.embedding_size=[1]", "als.regularisation=[0.0001]"),
        "als_setting",
        "sequences_choose",
        "als_choose",
    )
    row = lake.read("als_quality", RUN, "choose").first()
    assert (row.fill, row.name) == ("none", "rmse")
    # Predicting the mean would be off by the ratings' standard deviation, about 0.6.
    assert row.value < 0.02


def test_item_item_weights_name_positive_neighbours_strongest_first(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone
) -> None:
    # Items 2 and 4 always together, item 9 apart: the world worked by hand in the unit tests of EASE.
    write(lake, [(0, 2, 1.0), (0, 4, 1.0), (1, 2, 3.0), (1, 4, 5.0), (2, 9, 1.0)])
    run_alone(make_config("item_item.method=ease", "item_item.ease_regularisation=[1.0]"), "item_item_choose")
    rows = {row.item_idx: row for row in lake.read("item_item_weights", RUN, "choose").collect()}
    assert {item: list(row.neighbours) for item, row in rows.items()} == {2: [4], 4: [2], 9: []}
    assert rows[2].weights == pytest.approx([2 / 3])


def test_damped_ease_of_ratings_by_their_height_is_that_of_dense_matrices(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone
) -> None:
    rng = np.random.default_rng(8)
    ratings = np.where(rng.random((40, 15)) < np.linspace(0.2, 0.7, 15), rng.integers(1, 6, (40, 15)), 0)
    rows = [(u, i, float(ratings[u, i])) for u, i in zip(*(index.tolist() for index in ratings.nonzero()), strict=True)]
    config = make_config(
        "item_item.method=ease", "item_item.ease_regularisation=[4.0]", "item_item.rating_slope=[0.4]",
        "item_item.ease_damping=[0.3]", "item_item.history_half_life_visits=[null]",
        "item_item.pair_half_life_visits=[null]",
    )  # fmt: skip
    seen = ratings > 0
    z = (ratings - ratings[seen].mean()) / ratings[seen].std()
    x = np.where(seen, 1 + 0.4 * np.clip(z, -2, 2), 0)
    users = np.maximum(seen.sum(axis=1, keepdims=True), 1) ** -0.3
    gram = (x * users).T @ (x * users)
    gram *= np.square(x).sum() / np.trace(gram)
    items = np.diag(gram) ** -0.3
    items *= np.sqrt(np.trace(gram) / (items**2 * np.diag(gram)).sum())
    inverse = np.linalg.inv(items[:, None] * gram * items + 4 * np.eye(15))
    scaled = -inverse / np.diag(inverse)
    np.fill_diagonal(scaled, 0)
    scores = (x * items) @ scaled / items
    expected = {u: np.argsort(-np.where(seen[u], -np.inf, scores[u]))[: (~seen[u]).sum()] for u in range(40)}
    for phase in ("choose", "final"):
        write(lake, rows, validation=[(u, 0, 1.0) for u in range(40)], phase=phase)
        run_alone(config, f"item_item_{phase}")
        found = lists(lake, "item_item_candidates", phase=phase)
        assert found == {u: items.tolist() for u, items in expected.items() if seen[u].any()}


@pytest.mark.parametrize("method", ["ease", "rp3beta", "gfcf"])
def test_a_fitter_gives_each_setting_its_own(lake: Lake, config: Config, method: str) -> None:
    rng = np.random.default_rng(9)
    rows = [(u, i, float(rng.integers(1, 6))) for u in range(30) for i in range(8) if rng.random() < 0.5]
    schema = "user_idx int, item_idx int, rating double"
    ratings = lake.spark.createDataFrame(rows, schema).cache()
    axis, small = item_axis(ratings), config.item_item.model_copy(update={"gfcf_rank": 3})
    own = {"ease": {"ease_regularisation": 9.0}, "rp3beta": {"rp3_alpha": 0.7, "rp3_beta": 0.2}}
    setting = {"method": method, **own.get(method, {"gfcf_rank": 3, "gfcf_weight": 0.3})}
    one, seen, identity = Fitter(small, 1, ratings, axis), [], sparse.csr_array(np.eye(8))
    for key, value in (("rating_slope", 0.4), ("ease_damping", 0.5)):
        for changed in ({key: value}, {}):
            fresh = products(identity, Fitter(small, 1, ratings, axis).fit(setting | changed))
            assert products(identity, one.fit(setting | changed)) == pytest.approx(fresh, abs=1e-6)
            seen.append(fresh)
    assert np.abs(seen[0] - seen[1]).max() > 1e-3
    assert method != "ease" or np.abs(seen[2] - seen[3]).max() > 1e-3
    one.keep(0.0)
    assert products(identity, one.fit(setting)) == pytest.approx(seen[3], abs=1e-6)


@pytest.mark.parametrize("method", ["ease", "rp3beta", "gfcf"])
def test_one_user_and_one_item(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone, method: str
) -> None:
    write(lake, [(4, 6, 1.0)], validation=[(4, 8, 1.0)])  # an item that nobody has rated
    run_alone(
        make_config(f"item_item.method={method}", "als.embedding_size=[2]"),
        "als_setting",
        "sequences_choose",
        "popularity_choose",
        "als_choose",
        "item_item_choose",
    )
    assert lists(lake, "popularity_candidates") == {-1: [6], 4: []}
    assert lists(lake, "als_candidates") == {4: []}
    assert lists(lake, "item_item_candidates") == {4: []}


def test_ages_count_the_later_times_of_a_user(lake: Lake) -> None:
    # User 1 rated items 5 and 2 at once, 9 before them and 4 without a time; user 2 has one item.
    rows = [(1, 5, 70), (1, 9, 50), (1, 2, 70), (1, 4, None), (2, 9, 60)]
    ratings = lake.spark.createDataFrame(rows, "user_idx int, item_idx int, seconds long").selectExpr(
        "user_idx", "item_idx", "1D AS rating", "timestamp_seconds(seconds) AS ts"
    )
    found = with_ages(profiles(ratings), ratings).orderBy("user_idx").collect()
    assert [(row["items"], row["ages"]) for row in found] == [([2, 4, 5, 9], [0, 2, 0, 1]), ([9], [0])]


@pytest.mark.parametrize("where", ["driver", "spark"])
def test_pairs_near_in_time_are_summed_alike_by_driver_and_spark(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(item_item, "_PAIRS_ON_DRIVER", 1e9 if where == "driver" else 0)
    monkeypatch.setattr(item_item, "_USERS_PER_BLOCK", 1)
    # User 1 rated items 2, 4 and 6 one after the other, user 2 items 6 and 4 at once.
    rows = [(1, 2, 10), (1, 4, 20), (1, 6, 30), (2, 6, 50), (2, 4, 50)]
    ratings = lake.spark.createDataFrame(rows, "user_idx int, item_idx int, seconds long").selectExpr(
        "user_idx", "item_idx", "1D AS rating", "timestamp_seconds(seconds) AS ts"
    )
    users = with_ages(profiles(ratings), ratings)
    axis = item_axis(ratings)
    found = item_item.near_gram_matrix(users, axis, half_life=1.0)
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array([[1, 0.5, 0.25], [0.5, 2, 1.5], [0.25, 1.5, 2]]))
    # Damped by half, user 1's pairs count a third and user 2's a half.
    first = np.array([[1, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 1]])
    second = np.array([[0, 0, 0], [0, 1, 1], [0, 1, 1]])
    found = item_item.near_gram_matrix(users, axis, half_life=1.0, damping=0.5)
    assert found == pytest.approx(first / 3 + second / 2)
    x = item_item.gathered(profiles(ratings), axis)
    assert item_item.gram_matrix(x, axis, damping=0.5) == pytest.approx(np.ones((3, 3)) / 3 + second / 2)
    assert item_item.energy(x) == 5


def test_ratings_count_by_their_height(lake: Lake) -> None:
    # Mean 2, standard deviation 3: ones lie a third of it below, eleven lies three above and counts as two.
    rows = [(1, item, 1.0) for item in range(9)] + [(1, 9, 11.0)]
    ratings = lake.spark.createDataFrame(rows, "user_idx int, item_idx int, rating double")
    (row,) = profiles(ratings, rating_slope=0.3).collect()
    assert row["ratings"] == pytest.approx([0.9] * 9 + [1.6])
    (row,) = profiles(ratings).collect()
    assert row["ratings"] == [1.0] * 10
    same = ratings.where("item_idx < 9")
    assert profiles(same, rating_slope=0.3).collect()[0]["ratings"] == [1.0] * 9


@pytest.mark.parametrize("where", ["driver", "spark"])
def test_the_item_graph_is_that_of_dense_matrices(lake: Lake, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setattr(item_item, "_PAIRS_ON_DRIVER", 1e9 if where == "driver" else 0)
    monkeypatch.setattr(slabs, "_CELLS_PER_SLAB", 57)  # three items of 19
    monkeypatch.setattr(slabs, "_RATINGS_PER_PART", 60)
    rng = np.random.default_rng(4)
    x = (rng.random((50, 20)) < 0.25).astype(float)
    x[:, 3] = 0  # an item without ratings is not on the axis
    rows = [(u, 2 * i, 5.0) for u, i in zip(*(index.tolist() for index in x.nonzero()), strict=True)]
    ratings = lake.spark.createDataFrame(rows, "user_idx int, item_idx int, rating double")
    axis = item_axis(ratings)
    users = item_item.gathered(profiles(ratings), axis)
    assert isinstance(users, DataFrame) == (where == "spark")
    x = x[:, axis // 2]
    r = x / np.sqrt(np.maximum(x.sum(axis=1, keepdims=True), 1)) / np.sqrt(x.sum(axis=0))
    expected = r.T @ r
    np.fill_diagonal(expected, 0)
    assert item_item.graph_filter(users, axis, 20).toarray() == pytest.approx(expected, abs=1e-6)
    assert item_item.gram_matrix(users, axis) == pytest.approx(x.T @ x)
    # RP3beta from its definition: (x / row sum)^alpha twice, divided by popularity to alpha and beta.
    steps = (x / np.maximum(x.sum(axis=1, keepdims=True), 1)) ** 0.7
    walked = (x / x.sum(axis=0)).T ** 0.7 @ steps / x.sum(axis=0) ** 0.4
    np.fill_diagonal(walked, 0)
    assert item_item.rp3beta_weights(users, axis, 0.7, 0.4, 20).toarray() == pytest.approx(walked, abs=1e-6)
    few = item_item.rp3beta_weights(users, axis, 0.7, 0.4, 3).toarray()
    monkeypatch.setattr(slabs, "_MOST_TASKS", 1)
    assert (item_item.rp3beta_weights(users, axis, 0.7, 0.4, 3).toarray() == few).all()
    assert np.sort(few, axis=1)[:, -3:] == pytest.approx(np.sort(walked, axis=1)[:, -3:], abs=1e-6)
    vectors = item_item.graph_vectors(users, axis, 5, seed=1)
    v = np.linalg.svd(r)[2][:5].T
    assert vectors @ vectors.T == pytest.approx(v @ v.T, abs=0.01)
