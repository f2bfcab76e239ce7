"""Forecasts worked by hand, and sizes that cannot be."""

import json
from pathlib import Path

import pytest

from ganrec_spark.cli import sizing as command
from ganrec_spark.cli.main import main
from ganrec_spark.config.load import load_config
from ganrec_spark.errors import ConfigError
from ganrec_spark.plan.pipeline import STAGES
from ganrec_spark.sizing import (
    CONSTANTS,
    GIB,
    MEASURES,
    Constants,
    Size,
    bytes_of_sums,
    executors_of,
    forecast,
    limits,
    memory,
)

SIZE = Size(users=2_000_000, items=50_000, ratings=40_000_000)
LARGE = Size(users=100_000_000, items=1_000_000, ratings=1_000_000_000)
DEFAULTS = load_config(environ={})


def constants(**stages: dict[str, dict[str, float]]) -> Constants:
    world = Size(users=10_000, items=1000, ratings=100_000)
    empty: dict[str, dict[str, float]] = {measure: {} for measure in MEASURES}
    filled = {name: empty | measures for name, measures in stages.items()}
    return Constants("cheap", "benchmarks/scale.py", 2, (world,), filled, ())


def test_a_cost_is_the_sum_of_its_terms() -> None:
    # 3 + 40 million ratings * 2 + 2 million users * 10 + .05 million items * 100 + 100 billion pairs * .5
    cpu = {"fixed": 3.0, "ratings": 2.0, "users": 10.0, "items": 100.0, "pairs": 0.5}
    (found,) = forecast(constants(ingest={"cpu": cpu, "written": {"users": 7.0}}), SIZE, cores=1)
    assert found.cpu == pytest.approx(3 + 80 + 20 + 5 + 50)
    assert found.seconds == found.cpu
    assert found.written == 14.0
    assert found.shuffled == 0.0


def test_cores_shorten_all_but_the_drivers_part() -> None:
    measures = {"cpu": {"ratings": 10.0}, "driver_cpu": {"ratings": 1.0}}
    stages = constants(transformer_choose=measures)
    (found,) = forecast(stages, SIZE, cores=90)
    # 400 seconds, 40 of them in the driver, on the two cores that it was measured on; 360 on 90 cores.
    assert found.driver_seconds == 20.0
    assert found.seconds == 20.0 + 4.0
    (more,) = forecast(stages, SIZE, cores=360)
    assert more.seconds == 20.0 + 1.0


@pytest.mark.parametrize(
    ("stage", "largest", "beyond"),
    [
        # ALS's ratings; item_item's pairs of items, 10 or 10.1 million ratings of half a million users each.
        ("als_choose", Size(10_000, 500, 2_000_000), Size(10_000, 500, 2_000_001)),
        ("item_item_final", Size(500_000, 20_000, 10_000_000), Size(500_000, 20_000, 10_100_000)),
    ],
)
def test_what_becomes_too_much_for_the_driver_executors_do(stage: str, largest: Size, beyond: Size) -> None:
    stages = constants(**{stage: {"cpu": {"ratings": 10.0}, "driver_cpu": {"ratings": 10.0}}})
    (at_driver,), (at_executors,) = (forecast(stages, size, cores=10) for size in (largest, beyond))
    assert at_driver.seconds == at_driver.driver_seconds == at_driver.cpu / 2
    assert at_executors.driver_seconds == 0.0
    assert at_executors.seconds == at_executors.cpu / 10


def test_the_driver_does_no_more_than_all() -> None:
    measures = {"cpu": {"fixed": 5.0}, "driver_cpu": {"users": 9.0}}
    (found,) = forecast(constants(report=measures), SIZE, cores=4)
    assert (found.driver_seconds, found.seconds) == (2.5, 2.5)


def test_memory_by_hand() -> None:
    need = memory(SIZE, DEFAULTS, executors=10, executor_cores=4)
    # 50,000 items are too many for EASE; of GF-CF 20 bytes * 50,000 * (256 + 32), of RP3beta 24 * 200 * 50,000.
    assert need.driver_python == GIB + 288_000_000
    assert need.driver_most == "GF-CF's vectors"
    assert need.driver_heap == 3 * GIB
    # 60 bytes a rating over ten executors, 2 GiB a core.
    assert need.executor_heap == 8 * GIB + 240_000_000
    # 335 items a slab are 150 tasks. Each holds 2 ** 24 sums, and of 40 million ** 2 / 2 million = 800 million pairs
    # its share at 12 bytes: more than 153.6 MB of scores.
    assert need.executor_overhead == 4 * (GIB + 8 * 2**24 + 64_000_000)
    assert need.executor_most == "item_item's sums of pairs of items"


def test_small_catalogues_are_solved_exactly() -> None:
    small = Size(users=100_000, items=10_000, ratings=1_000_000)
    need = memory(small, DEFAULTS, executors=1, executor_cores=1)
    assert (need.driver_python, need.driver_most) == (GIB + 800_000_000, "EASE's matrices")
    # 12 bytes of 10 million pairs: one slab of all of 1,000 items; a sixteenth of EASE's are fewer bytes than that.
    assert bytes_of_sums(Size(users=1000, items=1000, ratings=100_000), DEFAULTS) == 8 * 2**24 + 12 * 100_000
    # Of so many users' pairs a task of EASE's holds each pair of items once; of a slab's rows it reads 256 MiB at once.
    assert bytes_of_sums(Size(users=10**6, items=10_000, ratings=10**8), DEFAULTS) == 12 * 10_000**2


def test_als_in_the_driver_until_its_vectors_are_too_many() -> None:
    # 4 bytes * 128 * 1.67 million are 0.797 GiB.
    below, beyond = (Size(users=users, items=20_000, ratings=10_000_000) for users in (1_650_000, 1_660_000))
    found = [next(limit for limit in limits(size, DEFAULTS, 2) if "ALS" in limit.what) for size in (below, beyond)]
    assert [limit.share > 1 for limit in found] == [False, True]
    assert found[0].key == "als.max_gathered_gib"
    assert memory(below, DEFAULTS, 1, 1).driver_most == "ALS's vectors"
    assert memory(beyond, DEFAULTS, 1, 1).driver_most != "ALS's vectors"


def test_what_breaks_first_comes_first() -> None:
    found = limits(LARGE, DEFAULTS, cores=1000)
    assert [limit.share for limit in found] == sorted((limit.share for limit in found), reverse=True)
    broken = [limit.what for limit in found if limit.share > 1]
    # 66.7 times 15,000 items; 60.2 times 0.8 GiB; 10 times 100,000; 1.49 times 1 GiB.
    assert broken == [
        "items for EASE",
        "ALS's vectors, GiB",
        "items for GF-CF",
        "RP3beta's weights, GiB",
    ]


def test_a_method_that_is_not_tried_breaks_nothing() -> None:
    settled = load_config(overrides=["item_item.method=rp3beta", "als.solver=mllib"], environ={})
    whats = {limit.what for limit in limits(LARGE, settled, cores=1)}
    assert not whats & {"items for EASE", "items for GF-CF", "ALS's vectors, GiB"}


@pytest.mark.parametrize(
    ("users", "items", "ratings", "named"),
    [
        (0, 10, 10, "--users: expected 1 or more, found 0"),
        (10, -1, 10, "--items: expected 1 or more, found -1"),
        (10, 10, 0, "--ratings: expected 1 or more, found 0"),
        (11, 10, 10, "--users: expected at most one for each of 10 ratings, found 11"),
        (10, 11, 10, "--items: expected at most one for each of 10 ratings, found 11"),
        (10, 10, 101, "--ratings: expected at most one of each user for each item, 100, found 101"),
    ],
)
def test_sizes_that_cannot_be(users: int, items: int, ratings: int, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Size(users=users, items=items, ratings=ratings)


def test_no_cores_are_refused() -> None:
    with pytest.raises(ConfigError, match="--cores: expected 1 or more, found 0"):
        forecast(constants(), SIZE, cores=0)
    with pytest.raises(ConfigError, match="--executor-cores: expected 1 or more, found 0"):
        executors_of(8, 0)
    assert executors_of(9, 4) == 3


def test_constants_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: expected the constants .*; run benchmarks/scale\.py"):
        Constants.read(tmp_path / "none.json")


@pytest.mark.skipif(not CONSTANTS.exists(), reason="benchmarks/scale.py has not measured constants yet")
def test_the_shipped_constants_are_of_todays_stages() -> None:
    found = Constants.read()
    assert {*found.stages, *found.left_out} == {stage.name for stage in STAGES}
    terms = set(SIZE.terms())
    for measures in json.loads(CONSTANTS.read_text())["stages"].values():
        assert set(measures) == set(MEASURES)
        assert all(set(of) <= terms and min(of.values(), default=1) > 0 for of in measures.values())


def words(**sizes: int) -> list[str]:
    return ["sizing", *(f"--{name.replace('_', '-')}={value}" for name, value in sizes.items())]


def test_without_constants_the_command_tells_no_hours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "CONSTANTS", tmp_path / "none.json")
    assert main(words(users=100_000_000, items=1_000_000, ratings=1_000_000_000, cores=1000)) == 0
    told = capsys.readouterr().out
    assert "no constants were measured yet" in told
    assert "core hours" not in told
    assert "250 executors of 4 cores" in told
    assert "RP3beta's weights, GiB: 1.49, the bound is 1 (spark.driver.maxResultSize" in told


@pytest.mark.skipif(not CONSTANTS.exists(), reason="benchmarks/scale.py has not measured constants yet")
def test_the_command_says_what_it_rests_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(users=100_000_000, items=1_000_000, ratings=1_000_000_000, cores=1000)) == 0
    told = capsys.readouterr().out
    assert "1,000,000,000 ratings, 100,000,000 users, 1,000,000 items." in told
    assert "generated worlds of" in told
    assert "times the ratings" in told
    assert "cheap models" in told
    assert "The shipped models take longer; by how much is not measured." in told
    assert "250 executors of 4 cores" in told
    assert "als.max_gathered_gib" in told


def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(users=100, items=10, ratings=50, cores=2)) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "--users: expected at most one for each of 50 ratings, found 100" in told
