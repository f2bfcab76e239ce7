"""Who says the same again has the same list, whatever the run is made of: an accepted fill, explicit ALS."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from spark.refresh.world import World, forget, published_world, said_again

from ganrec_spark.fills.rules import Judgement
from ganrec_spark.refresh.refresh import refresh
from ganrec_spark.stages import gate, recommend


def require_the_same_again(world: World) -> None:
    """Refresh all users' lists, then those of two alone; expect the lists as published."""
    before = {name: world.published(name) for name in ("recommendations", "unserved_users", "exposures")}
    world.tell(*said_again(world))
    assert refresh(world.lake, world.config).n_users > 80
    assert {name: world.published(name) for name in before} == before
    sparse = world.read("user_sparsity").orderBy("n_ratings").select("user_idx").head(1)[0].user_idx
    for user in (sparse, 4):
        world.unlaid()
        forget(world)
        world.tell(*said_again(world, {user}))
        assert refresh(world.lake, world.config).n_users == 1
        assert world.published() == before["recommendations"]


def test_explicit_als(spark: SparkSession, lake_root: Path) -> None:
    settings = ("als.implicit=false", "als.half_life_days=[null]")
    require_the_same_again(published_world(spark, lake_root, "kind_explicit", *settings))


def test_an_accepted_fill(spark: SparkSession, lake_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate has too few users to prove anything by; that it is accepted is not what is tested."""
    judge: Callable[..., list[Judgement]] = gate.settle

    def accepting(judged: list[Judgement], *more: object) -> list[Judgement]:
        settled = judge(judged, *more)
        best = next(item.fill for item in settled if item.level == "confirm")
        return [replace(item, verdict="accepted" if item.fill == best else "not_best") for item in settled]

    monkeypatch.setattr(gate, "nothing_to_prove", lambda *_: None)
    monkeypatch.setattr(gate, "screen", lambda _context, _plain, _users, _generated, fills: fills)
    monkeypatch.setattr(gate, "settle", accepting)
    monkeypatch.setattr(recommend, "refusal", lambda *_: "")
    world = published_world(spark, lake_root, "kind_fill")
    (published,) = world.read("blend_weights").where("published").select("fill").distinct().collect()
    filled = world.read("merged_ratings", "final").where("NOT observed")
    assert filled.select("fill").distinct().collect() == [published]
    assert filled.select("user_idx").distinct().count() > 10
    require_the_same_again(world)
