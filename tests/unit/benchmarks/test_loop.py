"""The loop's benchmark in miniature: its world by hand, its lists, and the page that it writes."""

import sys
from dataclasses import replace
from pathlib import Path

import loop
import numpy as np
import pandas as pd
import pytest
from loop_experiments import Small, experiments, policies
from loop_lists import blended, fitted, listed
from loop_world import Size, Truth, World, looks

TINY = Size(users=60, items=40, new_users=3, new_items=2, days=3, n=5)
SMALL = Small(users=120, trained=80, everyone=400, traced=60, items=20, days=2, n=4)


def test_looks_and_chances_are_those_of_the_formula() -> None:
    world = World(TINY, 1, Truth(base=0.0, steepness=0.0, quality=0.0, fading=0.1, walk=0.0))
    assert looks(3, Truth(look=1.0)) == pytest.approx([1, 1 / 2, 1 / 3])
    chances = world.chances(1)
    assert chances[:63, :40] == pytest.approx(1 / (1 + np.exp(0.1)))  # old items have faded for a day
    assert chances[:63, 40:42] == pytest.approx(0.5)  # those of the first day have not
    assert not chances[63:].any()
    assert not chances[:, 42:].any()


def test_tastes_walk_alike_whoever_looks_on_the_way() -> None:
    at_once, daily = World(TINY, 1), World(TINY, 1)
    for day in range(3):
        found = daily.chances(day)
    assert np.array_equal(at_once.chances(2), found)
    assert not np.array_equal(World(replace(TINY, days=3), 2).chances(2), found)


def test_gini_by_hand() -> None:
    assert loop.gini(np.array([3.0, 3.0, 3.0])) == pytest.approx(0)
    assert loop.gini(np.array([0.0, 0.0, 0.0, 4.0])) == pytest.approx(3 / 4)


def test_the_best_lists_have_all_that_is_possible() -> None:
    world = World(TINY, 3)
    chances = world.chances(0)
    best = np.argsort(-chances, axis=1)[:, :5]
    worst = np.argsort(chances, axis=1)[:, :5]
    assert loop.expected(chances, best, world) > loop.expected(chances, best[:, ::-1], world)
    assert loop.expected(chances, best, world) > loop.expected(chances, worst, world)
    clicked = loop.drawn(np.ones_like(chances), best, world, (0, 0))
    assert clicked[np.arange(len(best)), best[:, 0]].all()  # somebody who looks for certain and likes for certain
    assert clicked.sum() == np.take_along_axis(clicked, best, axis=1).sum()


def test_lists_have_nothing_twice_nothing_known_and_nothing_of_tomorrow() -> None:
    world = World(TINY, 4)
    known = world.history(world.chances(0))
    models = fitted(known, known.sum(axis=0).astype(float), True, 4)
    users = np.arange(TINY.users)
    way = loop.Way("explored", explore=True, fills=True)
    for lists in (
        listed(blended(models, known[users], TINY.items), TINY.n, None, users),
        loop.lists_of(models, known[users], TINY.items, way, users, (4, 0, TINY.n)),
    ):
        assert lists.shape == (TINY.users, TINY.n)
        assert (np.diff(np.sort(lists, axis=1), axis=1) > 0).all()
        assert not np.take_along_axis(known[users], lists, axis=1).any()
        assert lists.max() < TINY.items


def test_who_knows_the_tastes_lists_better_than_chance() -> None:
    world = World(replace(TINY, users=300), 5)
    chances = world.chances(0)
    known = world.history(chances)
    models = fitted(known, known.sum(axis=0).astype(float), False, 5)
    lists = listed(blended(models, known, TINY.items), TINY.n, None, np.arange(len(known)))
    values = np.where(known, 0, chances)[:300]
    by_chance = values[:, : TINY.items].mean()
    assert np.take_along_axis(values, lists[:300], axis=1).mean() > 1.3 * by_chance


def test_intervals_come_with_the_truth() -> None:
    rows = pd.DataFrame([*experiments(SMALL, 1), *policies(SMALL, 1)])
    assert len(rows) == 2 * 3 + 3 * 2
    assert (rows.loc[rows["kind"] == "no difference", "truth"] == 0).all()
    assert (rows.loc[rows["kind"] == "a difference", "truth"] != 0).all()
    assert rows["truth"].abs().max() < 1
    assert ((rows["low"] <= rows["value"]) & (rows["value"] <= rows["high"])).all()


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--seeds", "1", "--days", "2", "--users", "60", "--items", "40", "--worlds", "2", "--small-users", "80")
    monkeypatch.setattr(sys, "argv", ["loop.py", *small, "--out", str(tmp_path)])
    loop.main()
    page = (tmp_path / "loop.md").read_text()
    assert page in capsys.readouterr().out
    for way in loop.WAYS:
        assert f"| {way.name} |" in page
    assert "| arms differ | rate | " in page
    assert "of 2 |" in page
    assert (tmp_path / "loop.svg").read_text().count("<svg") == 1
