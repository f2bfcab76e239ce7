"""Every benchmark in miniature, as its users run it: what it prints and writes, not how good that is."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from e2e.lakeside import FAST, JAVA, REPOSITORY

from ganrec_spark.plan.pipeline import STAGES
from ganrec_spark.raw.world import TASTES, write_world
from ganrec_spark.sizing import Constants, forecast

SPARK = ("spark.master=local[2]", f"spark.properties={{spark.driver.extraJavaOptions: {JAVA}}}")
# A Transformer that takes seconds to train.
TINY = (
    "transformer.embedding_size=8",
    "transformer.max_length=10",
    "transformer.max_epochs=2",
    "transformer.min_steps_per_epoch=1",
    "transformer.validate_every=1",
)
# One setting of everything that is chosen, and few fills: beside the generators little is left to wait for.
ONE_OF_EACH = (
    "generator.kinds=[vae, agn, cgan]",
    "generator.history_half_life_visits=[null]",
    "augment.strategies=[{how: top, n: 1}]",
    "augment.rules=[popularity]",
    "als.half_life_days=[null]",
    "als.alpha=[20.0]",
    "item_item.history_half_life_visits=[null]",
    "item_item.pair_half_life_visits=[null]",
    "item_item.rating_slope=[0.0]",
    "item_item.ease_damping=[0.0]",
    "item_item.mix_shares=[]",
    "trending.half_life_days=[30]",
    "transformer.adversary_radius=[0.0]",
    "recommend.reranker=none",
    "recommend.fusion=[ranks]",
    "recommend.weight_step=0.5",
    "distributed.workers=1",
)
PEERS = ("popularity", "EASE", "RP3beta", "implicit ALS", "implicit BPR")
OURS = {"trending", "als", "item_item", "transformer", "blend", "published"}


def run(script: str, *arguments: object, settings: tuple[str, ...]) -> str:
    command = [sys.executable, f"benchmarks/{script}", *map(str, arguments)]
    command += [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks") / "world"
    write_world(folder / "ratings.parquet", users=120, items=60)
    return folder


@pytest.fixture(scope="module")
def measured(world: Path) -> tuple[Path, str]:
    """Return the folder with the lakes and the pages of quality.py and generators.py, and what the first printed."""
    out = world.parent
    common = ("--budget", 1, "--work", out / "work")
    settings = (*FAST, *ONE_OF_EACH, *SPARK)
    # The sequential peers' own miniature is tests/distributed/test_sequential_peers.py.
    alone = ("--peers", *PEERS, "--seeds", 1)
    page = run("quality.py", world, *alone, *common, "--out", out / "pages", settings=settings)
    run("generators.py", world, *common, "--out", out / "pages" / "generators", settings=settings)
    return out, page


def test_als_prints_both_solvers_and_their_ratio(world: Path) -> None:
    small = ("--size", 4, "--iterations", 2, "--rounds", 1)
    told = run("als.py", world / "ratings.parquet", *small, settings=(*SPARK, "spark.shuffle_partitions=2"))
    solvers = dict(re.findall(r"^(numpy|mllib): [\d.]+ s, NDCG@10 ([\d.]+)$", told, re.MULTILINE))
    assert set(solvers) == {"numpy", "mllib"}
    assert all(0 < float(value) < 1 for value in solvers.values())
    assert re.search(r"^numpy is [\d.]+ times as fast as MLlib$", told, re.MULTILINE)


def test_speed_tells_a_ratio_to_each_named_peer(world: Path, tmp_path: Path) -> None:
    small = ("--rounds", 1, "--size", 4, "--steps", 2, "--items", 50, 400)
    told = run("speed.py", world / "ratings.parquet", *small, "--out", tmp_path, settings=())
    assert (tmp_path / "speed.md").read_text() == told.removesuffix("\n")
    for ratio in ("times as fast", "times as fast", "times the time", "% of the rate", "% of the rate"):
        line = re.search(rf"^\| [^|]+ \| [^|]+: [\d.]+ s \| [^|]+: [\d.]+ s \| [\d.]+ ?{ratio}.*$", told, re.MULTILINE)
        assert line, told
        told = told.replace(line.group(), "")


def test_the_published_configuration_is_trained_and_tested(world: Path) -> None:
    told = run("published_sasrec.py", world, "--seeds", 1, settings=TINY)
    found = re.fullmatch(r"world, seed 0: epoch [12]; (validation .*); (test .*); \d+ s\n", told)
    assert found, told
    for part in found.groups():
        recall, ndcg = map(float, re.findall(r"@10 ([\d.]+)", part))
        assert 0 <= ndcg <= recall <= 1


def test_quality_measures_our_systems_and_the_peers(measured: tuple[Path, str]) -> None:
    out, page = measured
    rows = pd.read_parquet(out / "pages" / "world.parquet")
    assert set(rows.loc[rows["kind"] == "peer", "system"]) == set(PEERS)
    assert set(rows.loc[rows["kind"] != "peer", "system"]) >= OURS
    assert rows["value"].between(0, 1).all()
    assert rows.loc[rows["segment"] == "all", "n_users"].unique().tolist() == [120]
    assert page.strip() == (out / "pages" / "world.md").read_text().strip()
    assert "| published (blend) |" in page
    assert "<svg" in (out / "pages" / "world.svg").read_text()


def test_small_subsets_are_compared_with_their_best_member(world: Path, tmp_path: Path) -> None:
    # Without sparse users the stages of the fills, which other benchmarks run, are not called for.
    settings = (*FAST, *ONE_OF_EACH, *SPARK, "sparsity.max_ratings=0")
    run("small.py", world, "--subsets", 1, "--work", tmp_path / "work", "--out", tmp_path, settings=settings)
    (row,) = pd.read_parquet(tmp_path / "small.parquet").to_dict("records")
    members = {name: row[name] for name in ("als", "item_item", "transformer", "trending")}
    assert row["best_member"] == max(members, key=members.__getitem__)
    assert row["low"] <= row["lift"] <= row["high"]
    assert row["lift"] == pytest.approx(row["published"] / members[row["best_member"]] - 1)
    assert row["below"] == (row["high"] < 0)
    assert "| world-0 | 120 |" in (tmp_path / "small.md").read_text()


def test_refresh_tells_the_seconds_of_each_lake_and_their_ratio(tmp_path: Path) -> None:
    sizes = ("--users", 60, 120, "--items", 60, "--changed", 3, 20, "--rounds", 1)
    told = run("refresh.py", *sizes, "--work", tmp_path, "--out", tmp_path / "pages", settings=SPARK)
    rows = pd.read_parquet(tmp_path / "pages" / "refresh.parquet")
    assert rows.groupby(["users", "what"])["changed"].apply(list).to_dict() == {
        (users, what): changed
        for users in (60, 120)
        for what, changed in (("first", [10]), ("refresh", [3, 20]), ("compaction", [0]))
    }
    assert (rows["refresh"] > 0).all()
    assert told.strip() == (tmp_path / "pages" / "refresh.md").read_text().strip()
    assert "| users with new events | 60 users | 120 users | times |" in told
    assert str(tmp_path) not in told


def test_scale_writes_the_constants_that_forecast_its_own_worlds(tmp_path: Path) -> None:
    file = tmp_path / "constants.json"
    folders = ("--work", tmp_path / "work", "--out", tmp_path / "pages", "--constants", file)
    told = run("scale.py", "--ratings", 600, 2400, "--items", 80, "--apart", *folders, settings=SPARK)
    rows = pd.read_parquet(tmp_path / "pages" / "scale.parquet")
    assert set(rows["stage"]) == {stage.name for stage in STAGES}
    done, skipped = (rows[rows["outcome"] == outcome] for outcome in ("done", "skipped"))
    assert set(skipped["stage"]) == {stage.name for stage in STAGES if stage.needs_sparse_users}
    assert (done["cpu"] > 0).all()
    assert (done["cpu"] > done["driver_cpu"]).all()
    assert (done.loc[done["stage"] == "ingest", ["shuffled", "written"]] > 0).all(axis=None)
    assert (rows["peak"] > rows[["peak_driver", "peak_worker"]].max(axis=1)).all()
    constants = Constants.read(file)
    assert constants.stages.keys() == set(done["stage"])
    for world in constants.worlds:
        own = done[done["ratings"] == world.ratings]
        found = sum(one.cpu for one in forecast(constants, world, cores=2))
        assert found == pytest.approx(own["cpu"].sum(), rel=0.3)
    assert told.strip() == (tmp_path / "pages" / "scale.md").read_text().strip()
    assert str(tmp_path) not in told


def test_generators_measure_each_one_its_twin_and_every_fill(measured: tuple[Path, str]) -> None:
    folder = measured[0] / "pages" / "generators"
    lists, fills = (pd.read_parquet(folder / f"world.{kind}.parquet") for kind in ("recommenders", "fills"))
    assert set(lists["generator"]) >= {"vae", "agn", "cgan", "cgan_twin", "popularity", "EASE"}
    assert lists["value"].between(0, 1).all()
    assert set(lists.loc[lists["twin"].notna(), "generator"]) == {"cgan"}
    assert {"vae_top1", "cgan_top1", "cgan_twin_top1"} <= set(fills["fill"])
    assert "| world | cgan | cgan_twin |" in folder.with_suffix(".md").read_text()
    # Once more of the pipeline's fills alone, in a lake that is there: the same verdicts, and the recommenders stay.
    out = measured[0]
    settings = (*FAST, *ONE_OF_EACH, *SPARK)
    again = ("--fills-only", "--work", out / "work", "--out", folder)
    page = run("generators.py", out / "world", *again, settings=settings)
    same = pd.read_parquet(folder / "world.fills.parquet").drop(columns="command")
    own = fills[~fills["fill"].str.startswith("cgan_twin")].reset_index(drop=True)
    pd.testing.assert_frame_equal(same, own.drop(columns="command"))
    assert "--fills-only" in page
    assert "| world | cgan | cgan_twin |" in page


def test_the_adversary_is_compared_with_its_twin_on_the_generators_page(
    world: Path, measured: tuple[Path, str], tmp_path: Path
) -> None:
    out = tmp_path / "generators"
    shutil.copytree(measured[0] / "pages" / "generators", out)
    run("adversarial.py", world, "--seeds", 1, "--out", out, settings=TINY)
    rows = pd.read_parquet(out / "world.adversarial.parquet").set_index("split")
    assert set(rows.index) == {"validation", "test"}
    assert rows[["twin", "adversarial"]].stack().between(0, 1).all()
    assert (rows["n_users"] == 120).all()
    assert "--radius 0.05 --seeds 1 --set transformer.embedding_size=8" in rows.loc["test", "command"]
    assert "| world |" in out.with_suffix(".md").read_text()


def test_warm_start_compares_two_runs_that_see_the_same(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "world"
    folder.mkdir()
    shutil.copy(world / "ratings.parquet", folder)
    # A run goes on from what was judged, so there is something to choose, and from networks that are above popularity.
    own = ("als.alpha=[20.0, 1.0]", "transformer.max_epochs=30", "transformer.min_steps_per_epoch=10")
    told = run("warm_start.py", folder, "--work", tmp_path, settings=(*FAST, *ONE_OF_EACH, *SPARK, *own))
    assert re.search(r"the last day, is new: [1-9]\d* of \d+ ratings", told), told
    for system in ("als", "transformer", "blend"):
        assert re.search(rf"^\| {system}: test NDCG@10 \| [\d.]+ \| [\d.]+ \| [+-][\d.]+%", told, re.MULTILINE), told
    # In so small a world what goes on may be judged too weak; the page then says that it was tried.
    for stage in ("als_setting", "transformer_choose"):
        going_on, anew = (told.split(f"- 2100-01-0{day} {stage}: ")[1].partition("\n")[0] for day in (2, 3))
        assert re.search(r"(went|going) on from run 2100-01-01", going_on), told
        assert "2100-01-01" not in anew


@pytest.mark.parametrize(("script", "kind"), [("cold_users.py", "user"), ("cold_items.py", "item")])
def test_people_and_items_of_whom_no_rating_is_known(world: Path, tmp_path: Path, script: str, kind: str) -> None:
    ids = sorted(pd.read_parquet(world / "ratings.parquet")[f"{kind}_id"].unique())
    known = tmp_path / "known.parquet"
    pd.DataFrame({f"{kind}_id": ids, "taste": [f"taste {int(one[1:]) % TASTES}" for one in ids]}).to_parquet(known)
    arguments = ("--seeds", 1, "--work", tmp_path / "work", f"--{kind}s", known)
    require_rows(run(script, world, *arguments, settings=(*FAST, *ONE_OF_EACH, *SPARK)))


def test_what_is_known_of_items(world: Path, tmp_path: Path) -> None:
    ids = sorted(pd.read_parquet(world / "ratings.parquet")["item_id"].unique())
    known = tmp_path / "known.parquet"
    pd.DataFrame({"item_id": ids, "taste": [f"taste {int(one[1:]) % TASTES}" for one in ids]}).to_parquet(known)
    arguments = ("--seeds", 1, "--work", tmp_path / "work", "--items", known)
    told = run("content.py", world, *arguments, settings=(*FAST, *ONE_OF_EACH, *SPARK))
    for system in ("item_item", "transformer", "blend"):
        assert re.search(rf"^\| {system}, all \| \d+ \| 0\.\d+ \| 0\.\d+ \| [+-][\d.]+% ", told, re.MULTILINE), told


def test_people_who_are_known_from_another_shop(world: Path, tmp_path: Path) -> None:
    ratings = pd.read_parquet(world / "ratings.parquet")
    books = ratings.assign(item_id="b" + ratings.item_id)
    both = pd.concat([ratings.assign(domain="films"), books.assign(domain="books")])
    both.to_parquet(tmp_path / "ratings.parquet")
    arguments = ("--seeds", 1, "--work", tmp_path / "work", "--domain", "films")
    require_rows(run("cold_users.py", tmp_path, *arguments, settings=(*FAST, *ONE_OF_EACH, *SPARK)))


def require_rows(told: str) -> None:
    row = re.search(r"^\| 0 \|" + r" [\d.]+ \+- [\d.]+ \|" * 3 + r" [+-].*, (\d+) users \|", told, re.MULTILINE)
    assert row, told
    assert int(row[1]) > 10
