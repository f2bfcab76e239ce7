"""What benchmarks/quality.py rests on: peers against our own models, lists by hand, the cut, the summary."""

from argparse import Namespace
from pathlib import Path

import generators
import generators_report
import numpy as np
import pandas as pd
import peers
import pytest
import quality
import quality_data
import quality_peers
import quality_report
import quality_run
import quality_summary
import search
import sequential
import ties
import yaml
from global_time import by_global_time
from scipy import sparse

from ganrec_spark.recommenders.item_item import ease, rp3beta


def ratings(users: int = 60, items: int = 25) -> sparse.csr_matrix:
    rng = np.random.default_rng(5)
    return sparse.csr_matrix((rng.random((users, items)) < 0.2).astype(np.float32))


def test_the_peers_ease_is_ours() -> None:
    observed = ratings()
    weights = ease.ease_weights((observed.T @ observed).toarray(), 20.0)
    theirs = peers.ease(observed, {"lambda": 20.0}, 0)(slice(0, 60))
    np.testing.assert_allclose(theirs, observed @ weights, atol=1e-4)


def test_the_peers_rp3beta_is_ours() -> None:
    observed = ratings()
    walked = rp3beta.walks(sparse.csr_array(observed.astype(np.float64)), 0.7)
    popularity = observed.sum(axis=0).A1
    found = rp3beta.transition_weights(walked, np.arange(25), popularity, (0.7, 0.4), 200)
    weights = np.zeros((25, 25))
    for row, (targets, values) in enumerate(zip(*found, strict=True)):
        weights[row, targets] = values
    theirs = peers.rp3beta(observed, {"alpha": 0.7, "beta": 0.4}, 0)(slice(0, 60))
    # A user's own row sums to 1 in the walk's first step; ours leaves that out, for it is the same for all items.
    np.testing.assert_allclose(theirs, observed @ weights, rtol=1e-4)


def test_lists_leave_out_what_was_seen_and_users_without_ratings_get_the_popular_ones() -> None:
    observed = sparse.csr_matrix(np.array([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]], float))
    wanted = {user: np.array([0]) for user in (0, 1, 3)}
    found = quality_peers.ranked(lambda block: np.arange(5.0) * np.ones((4, 1)), observed, wanted)
    # Item 4 has no rating; items 0, 2 and 3 have one each.
    assert {user: items.tolist() for user, items in found.items()} == {0: [3, 2], 1: [3, 0], 3: [1, 0, 2, 3]}


def test_a_cut_leaves_the_newest_ratings_and_the_other_users_alone() -> None:
    whole = pd.DataFrame({"user_id": np.repeat(np.arange(200), 30), "item_id": np.tile(np.arange(30), 200)})
    whole["timestamp"] = whole["item_id"]
    cut = quality_data.cut_users(whole, 0.5, held_out=2)
    counts = cut.groupby("user_id").size()
    assert set(counts) == {7, 8, 9, 10, 11, 12, 30}
    assert 70 < (counts < 30).sum() < 130
    assert (cut.groupby("user_id")["item_id"].min() == 30 - counts).all()
    pd.testing.assert_frame_equal(cut, quality_data.cut_users(whole, 0.5, held_out=2))


# Time of every rating by user and item.
TIMES = {"a": {1: 1, 2: 10, 3: 20, 4: 30}, "b": {1: 2, 3: 5, 4: 40}, "late": {2: 50, 3: 60}}


def rated_at(times: dict[str, dict[int, int]]) -> pd.DataFrame:
    rows = [(user, item, 3.0, time) for user, own in times.items() for item, time in own.items()]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"]).sample(frac=1, random_state=3)


def test_a_split_by_time_keeps_what_came_before_and_the_first_after_it() -> None:
    # Nine ratings, the fifth at 20: before the median of all 1, 2, 5, 10 and 20, after their median 5 the last two.
    kept, settings = by_global_time(rated_at(TIMES), 0.5)
    pairs = set(zip(kept["user_id"], kept["item_id"], strict=True))
    # a's target is 4; b's is its only later rating; whoever begins after the cut has no history.
    assert pairs == {("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 3), ("a", 4), ("b", 4)}
    assert settings[0] == "split.protocol=temporal"
    shares = dict(setting.split("=") for setting in settings[1:])
    assert float(shares["split.test_share"]) * 7 == pytest.approx(2.5)
    assert float(shares["split.validation_share"]) * 7 == pytest.approx(2)


def test_an_item_that_is_rated_again_is_no_target() -> None:
    again = pd.concat([rated_at(TIMES), pd.DataFrame([("a", 2, 5.0, 15)], columns=list(rated_at(TIMES)))])
    kept, _ = by_global_time(again, 0.5)
    assert kept.loc[(kept["user_id"] == "a") & (kept["item_id"] == 2), "timestamp"].tolist() == [10]
    assert not kept.duplicated(["user_id", "item_id"]).any()


def test_places_in_a_history_are_no_times() -> None:
    places = {"a": {1: 0, 2: 1}, "b": {3: 0, 2: 1, 1: 2}}
    with pytest.raises(ValueError, match="every history starts at 0"):
        by_global_time(rated_at(places), 0.9)
    with pytest.raises(ValueError, match="found 0 targets"):
        by_global_time(rated_at({"a": {1: 1, 2: 2}, "b": {1: 90}}), 0.5)


def test_a_folder_split_by_time_has_a_page_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    rated_at(TIMES).to_parquet(folder / "ratings.parquet")
    data = quality_data.prepared(folder, 0.0, tmp_path / "work", 0.5)
    assert data.name == "tiny-time-0.5"
    assert data.settings[:2] == (f"ingest.source={tmp_path}/work/tiny-time-0.5.parquet", "split.protocol=temporal")
    assert len(pd.read_parquet(tmp_path / "work" / "tiny-time-0.5.parquet")) == 7
    options = Namespace(
        datasets=[folder],
        seeds=1,
        budget=None,
        cut=0.0,
        global_time=0.5,
        tie_ascending=False,
        peers=quality_peers.everyone(),
        set=[],
    )
    assert quality.command_line(options) == "benchmarks/quality.py tiny --seeds 1 --global-time 0.5"
    (folder / "ratings.parquet").rename(folder / "train.parquet")
    with pytest.raises(SystemExit, match=r"expected ratings\.parquet"):
        quality_data.prepared(folder, 0.0, tmp_path, 0.5)


def test_published_rows_say_what_they_share_with_our_file() -> None:
    table = yaml.safe_load((Path(quality_report.__file__).parent / "published.yaml").read_text())
    for name, rows in table.items():
        for row in rows:
            assert row["shares"] in ("data and order", "data", "source", "unknown"), (name, row)
            assert set(row) - {"system", "shares", "note", "read_in"}, "no figure"
            assert "read_in" in row, "null where the figures could not be checked"
            if row["shares"] == "source":
                assert row["note"]
    row = next(row for row in table["ml-1m-sequences"] if row["system"] == "eSASRec")
    assert quality_report.kinship(row) == "published; shares source with our file; 3,706 items, order of the file"
    unread = {"system": "X", "shares": "data", "read_in": None}
    assert quality_report.kinship(unread) == "published; shares data with our file; figures not checked"


def test_the_summary_compares_with_the_peer_that_was_best_on_validation() -> None:
    rows = []
    for kind, system, validation, gain in (
        ("peer", "A", 0.5, 1.0),
        ("peer", "B", 0.4, 9.0),
        ("blend", "ours", 0.6, 2.0),
    ):
        for user in range(100):
            value = gain * (1 + user % 2) / 20
            rows += [
                (user, 0.0, validation, "validation", kind, system, 0),
                (user, 0.0, value, "test", kind, system, 0),
            ]
    values = pd.DataFrame(rows, columns=["user_idx", "recall@10", "ndcg@10", "split", "kind", "system", "seed"])
    segments = {user: ("all", "sparse" if user < 30 else "dense") for user in range(99)}
    found = quality_summary.summary(values, segments).set_index(["system", "segment", "metric"])
    ours = found.loc["ours", "all", "ndcg@10"]
    assert ours["best_peer"] == "A"
    assert ours["value"] == pytest.approx(0.15)
    assert (ours["lift"], ours["lift_low"], ours["lift_high"]) == pytest.approx((1.0, 1.0, 1.0))
    assert ours["low"] < 0.15 < ours["high"]
    assert found.loc["ours", "sparse", "ndcg@10"]["n_users"] == 30
    assert found.loc["ours", "cold", "ndcg@10"]["n_users"] == 1


def test_what_a_fill_changes_is_measured_against_the_same_lists_without(tmp_path: Path) -> None:
    gains = {"als": 1.0, "als with fill": 1.5, "blend": 4.0, "blend with fill": 3.0, "published": 4.0, "A": 2.0}
    rows = [
        (user, gain / 20, gain * (1 + user % 2) / 20, split, "peer" if system == "A" else "member", system, 0)
        for system, gain in gains.items()
        for user in range(100)
        for split in ("validation", "test")
    ]
    values = pd.DataFrame(rows, columns=["user_idx", "recall@10", "ndcg@10", "split", "kind", "system", "seed"])
    table = quality_summary.summary(values, {user: ("all", "sparse" if user < 30 else "dense") for user in range(100)})
    found = table[table["metric"] == "ndcg@10"].set_index(["system", "segment"])["fill_lift"]
    assert found["als with fill", "sparse"] == pytest.approx(0.5)
    assert found["blend with fill", "all"] == pytest.approx(-0.25)
    assert found["published", "dense"] == pytest.approx(0)
    assert found["als"].isna().all()
    assert found["A"].isna().all()
    fills = pd.DataFrame([("none", False, 0), ("vae_top1", True, 0)], columns=["fill", "accepted", "seed"])
    judged = fills.assign(sparse_lift=0.1, sparse_ci_low=0.0, sparse_ci_high=0.2, level="confirm", verdict="accepted")
    told = quality_report.Measured("tiny", (10,), "a command", [1.0], [], table.assign(seeds=1), judged)
    quality_report.write(told, tmp_path)
    page = (tmp_path / "tiny.md").read_text()
    assert "| als with fill | +50.0 % [+50.0, +50.0] | +50.0 % [+50.0, +50.0] | +50.0 % [+50.0, +50.0] |" in page


def test_an_adversarial_generator_is_compared_with_its_twin_over_the_same_users() -> None:
    users = {user: np.array([user]) for user in range(40)}
    hits = {user: np.array([user, 99]) for user in users}
    half = {user: np.array([user if user < 20 else 99]) for user in users}
    split = quality_run.Split(ratings(), ratings(), {}, users, {})
    found = generators.compared_lists({"cgan": hits, "cgan_twin": half, "vae": half}, split, (1,))
    rows = found[found["metric"] == "ndcg@1"].set_index("generator")
    assert rows["value"].to_dict() == {"cgan": 1.0, "cgan_twin": 0.5, "vae": 0.5}
    assert rows["twin"].dropna().to_dict() == {"cgan": "cgan_twin"}
    assert rows.loc["cgan", "lift"] == pytest.approx(1.0, abs=0.1)
    assert rows.loc["cgan", "lift_low"] > 0


def test_the_page_counts_what_the_gate_got_right_and_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "generators"
    folder.mkdir()
    told = generators.command(Path("somewhere/tiny"), Namespace(budget=120.0, cut=0.5, fills_only=False, set=["a.b=1"]))
    recommender = ("cgan", "ndcg@10", 0.5, "cgan_twin", 0.1, 0.05, 0.15, "tiny", told)
    columns = ["generator", "metric", "value", "twin", "lift", "lift_low", "lift_high", "dataset", "command"]
    pd.DataFrame([recommender], columns=columns).to_parquet(folder / "tiny.recommenders.parquet")
    verdicts = {
        "right": ("accepted", 0.2, 0.1),
        "wrong": ("accepted", 0.1, -0.1),
        "missed": ("harms_overall", -0.1, 0.3),
    }
    fills = [
        (
            name,
            verdict,
            seen,
            seen - 0.05,
            seen + 0.05,
            0.0,
            true,
            true - 0.05,
            true + 0.05,
            0.0,
            "tiny",
            f"{told} --fills-only",
        )
        for name, (verdict, seen, true) in verdicts.items()
    ]
    lifts = [f"{part}_{what}" for part in ("validation", "test") for what in ("sparse", "low", "high", "overall")]
    table = pd.DataFrame(fills, columns=["fill", "verdict", *lifts, "dataset", "command"])
    table.to_parquet(folder / "tiny.fills.parquet")
    generators_report.write(folder)
    page = folder.with_suffix(".md").read_text()
    assert "- tiny: `benchmarks/generators.py tiny --budget 120 --cut 0.5 --set a.b=1`, then `" in page
    assert "| tiny | cgan | cgan_twin | +10.0 % [+5.0, +15.0] |" in page
    assert "| tiny | 3 | 2 | 1 | 1 | 1 | 33% | -0.50 |" in page
    assert "<svg" in folder.with_suffix(".svg").read_text()


def test_ties_are_in_an_order_that_no_id_tells_and_ascending_ids_may_be_ties() -> None:
    rng = np.random.default_rng(0)
    rows = [(user, item, 7) for user in range(500) for item in rng.choice(300, 8, replace=False)]
    found = ties.in_time(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))
    last = found.groupby("user_id")["item_id"].agg(["last", "max"])
    assert 0.07 < (last["last"] == last["max"]).mean() < 0.19
    one = pd.DataFrame({"user_id": [1, 1, 1, 1, 2, 2], "item_id": [5, 9, 2, 4, 6, 8], "timestamp": [0, 1, 2, 3, 0, 1]})
    tied = ties.with_ascending_ids_tied(one.iloc[::-1])
    assert tied["item_id"].tolist() == [5, 9, 2, 4, 6, 8]
    assert tied.groupby("user_id")["timestamp"].agg(lambda times: (times - times.min()).tolist()).tolist() == [
        [0, 0, 1, 1],
        [0, 0],
    ]


def test_a_search_goes_past_the_grids_edge_while_that_is_better() -> None:
    asked = []

    def height(setting: search.Setting, left: float) -> float:
        asked.append((setting["a"], setting["b"]))
        return -abs(setting["a"] - 40) - abs(setting["b"] - 0.2)

    grid = [{"a": a, "b": b} for a in (5, 10) for b in (0.1, 0.2, 0.3)]
    found = search.search(grid, height, budget=60)
    assert asked[:6] == [(5, 0.1), (5, 0.2), (5, 0.3), (10, 0.1), (10, 0.2), (10, 0.3)]
    # 10 is the grid's edge: 20 and 40 are better, 80 is not, nor are the other neighbours of (40, .2).
    assert asked[6:] == [(20, 0.2), (40, 0.2), (80, 0.2), (40, 0.3), (40, 0.1)]
    assert (found.setting, found.n_tried) == ({"a": 40, "b": 0.2}, 11)
    assert found.ended == "beyond the first values in a; no neighbour is better"


def test_a_search_ends_with_its_budget_and_says_what_it_left_out() -> None:
    found = search.search([{"a": 1.0}, {"a": 2.0}], lambda setting, left: setting["a"], budget=-1)
    assert found.n_tried == 1
    assert found.ended == "the budget ended before 1 of the grid and 2 of its neighbours were tried"


def test_what_lies_past_a_ladder() -> None:
    assert search.beyond([10, 30, 100]) == 333
    assert search.beyond([1.0, 5.0, 20.0]) == 80.0
    assert search.beyond([0.4, 0.7, 1.0, 1.3]) == 1.6
    assert search.beyond([0.3, 0.2, 0.1]) is None  # 0 is no positive number
    assert search.beyond([0.2, 0.1, 0.0]) == -0.1
    assert search.beyond([3, 2, 1]) is None
    assert search.beyond([7]) is None


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_ease_inverts_in_place_and_by_blocks(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    observed = ratings(400, 150)
    gram = peers.gram_matrix(observed, 30.0, size)
    plain = (observed.T @ observed).toarray() + 30 * np.eye(150)
    np.testing.assert_allclose(gram, plain)
    memory = gram.__array_interface__["data"][0]
    peers.invert(gram, size)
    np.testing.assert_allclose(gram, np.linalg.inv(plain.astype(np.float64)), atol=1e-7)
    assert gram.__array_interface__["data"][0] == memory
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        peers.invert(-np.eye(3, dtype=np.float32))


def test_every_peer_that_fits_gowalla_is_tried_and_none_of_them_sees_order() -> None:
    assert all(peer.max_items >= 40_981 and not peer.sees_order for peer in peers.PEERS)
    assert {peer.name for peer in peers.PEERS} == {"popularity", "EASE", "RP3beta", "implicit ALS", "implicit BPR"}


def test_bpr_finds_the_checkerboards_other_items() -> None:
    board = np.equal.outer(np.arange(60) % 2, np.arange(60) % 2)
    np.fill_diagonal(board, False)
    setting = {"factors": 8, "learning_rate": 0.1, "regularization": 0.01, "iterations": 100}
    scores = peers.implicit_bpr(sparse.csr_matrix(board.astype(np.float32)), setting, 1)(slice(0, 60))
    assert (scores.diagonal() > np.where(board, -np.inf, scores - 100 * np.eye(60)).max(axis=1)).mean() > 0.9


def test_a_peer_that_diverges_is_the_worst_and_ends_no_search() -> None:
    board = sparse.csr_matrix(np.eye(30, 20, dtype=np.float32) + np.eye(30, 20, 1, dtype=np.float32))
    setting = {"factors": 16, "learning_rate": 1e30, "regularization": 0.0, "iterations": 5}
    assert not peers.implicit_bpr(board, setting, 1)(slice(0, 5)).any()


def test_a_peers_budget_is_at_least_half_of_the_pipelines_time() -> None:
    assert quality_peers.allowed(None, 600)[0] == 600
    assert quality_peers.allowed(900, 600) == (900, "Each peer's search had 900 s, 150 % of the pipeline's time.")
    budget, told = quality_peers.allowed(20, 600)
    assert budget == 300
    assert told.endswith("50 % of the pipeline's time; --budget 20 was lifted to that, the least there is.")


def test_lifts_are_over_the_best_peer_of_all_and_over_the_best_that_does_not_see_order(tmp_path: Path) -> None:
    rows = []
    for kind, system, validation, gain in (
        ("peer", "EASE", 0.4, 1.0),
        ("peer", "RP3beta", 0.3, 9.0),
        ("peer", "eSASRec", 0.5, 1.6),
        ("blend", "ours", 0.6, 2.0),
    ):
        for seed, wobble in ((0, 0.9), (1, 1.1)):
            for user in range(100):
                value = gain * wobble * (1 + user % 2) / 20
                rows += [
                    (user, 0.0, part, name, kind, system, seed)
                    for name, part in (("validation", validation), ("test", value))
                ]
    values = pd.DataFrame(rows, columns=["user_idx", "recall@10", "ndcg@10", "split", "kind", "system", "seed"])
    table = quality_summary.summary(values, {user: ("all", "sparse" if user < 30 else "dense") for user in range(100)})
    ours = table.set_index(["system", "segment", "metric"]).loc["ours", "all", "ndcg@10"]
    assert ours[["best_peer", "best_blind_peer"]].tolist() == ["eSASRec", "EASE"]
    assert ours[["lift", "blind_lift"]].tolist() == pytest.approx([0.25, 1.0])
    assert ours[["value", "seed_low", "seed_high"]].tolist() == pytest.approx([0.15, 0.135, 0.165])
    fills = pd.DataFrame(columns=["fill", "accepted", "seed", "sparse_lift", "reason"])
    told = quality_report.Measured("tiny", (10,), "a command", [1.0, 2.0], ["EASE: x"], table.assign(seeds=2), fills)
    quality_report.write(told, tmp_path)
    page = (tmp_path / "tiny.md").read_text()
    assert "95 % over users, these seeds fixed" in page
    heading = "| system | all | sparse | dense | all, over EASE | all, over eSASRec | sparse, over EASE |"
    assert heading + " sparse, over eSASRec |" in page
    assert "| ours (blend) | 0.1500 (0.1350-0.1650) | 0.1500 | 0.1500 | +100.0 % [+100.0, +100.0] | +25.0 %" in page


def histories() -> sequential.Histories:
    # Everyone walks along the items from their own start, so the next item is known.
    rows = [(user, (user + step) % 30, step) for user in range(90) for step in range(6)]
    whole = pd.DataFrame(rows, columns=["user_idx", "item_idx", "ts"]).assign(tie=0)
    train, validation = whole[whole["ts"] < 4], whole[whole["ts"] == 4]
    return sequential.Histories(train, validation, np.arange(90))


def test_ratings_of_one_time_are_in_the_pipelines_order() -> None:
    rows = pd.DataFrame({"user_idx": [1, 1, 1, 0], "item_idx": [5, 4, 3, 9], "ts": [7, 7, 6, 8]})
    assert sequential.in_order(rows.assign(tie=0))["item_idx"].tolist() == [9, 3, 4, 5]
    assert sequential.in_order(rows.assign(tie=[0, 1, 0, 0]))["item_idx"].tolist() == [9, 3, 5, 4]


def test_the_sequential_peers_are_handed_no_test_rating(tmp_path: Path) -> None:
    sequential.hand_over(histories(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "test_users.parquet",
        "train.parquet",
        "validation.parquet",
    ]
    assert pd.read_parquet(tmp_path / "test_users.parquet").columns.tolist() == ["user_idx"]
    first = pd.read_parquet(tmp_path / "train.parquet").head(4)
    assert first["item_idx"].tolist() == first["position"].tolist() == [0, 1, 2, 3]
    assert set(pd.read_parquet(tmp_path / "validation.parquet")["position"]) == {4}


def test_without_the_peers_environment_the_benchmark_says_how_to_make_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GANREC_PEERS_VENV", str(tmp_path))
    with pytest.raises(SystemExit, match="run `make peers`, or leave SASRec and eSASRec out by --peers"):
        sequential.required()
