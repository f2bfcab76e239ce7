"""Items of which attributes are known and no rating: those who rated items like them get them, where that helps."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from ganrec_spark.config.sections import Config
from ganrec_spark.lake.store import Lake
from ganrec_spark.recommenders.newcomers.fit import mixtures

RUN = "2026-11-01"
STAGES = ("newcomers_choose", "newcomers_final")
RunAlone = Callable[..., list[str]]
# Of items 0 to 29 those of group a are red, of group b blue; users of a group rate eight of its items. Of 100 to 103
# nobody has rated one; 102 has a colour of its own, and of 103 nothing is known.
GROUPS = {item: "ab"[item % 2] for item in range(30)}
COLOURS = {"a": "red", "b": "blue"}
NEW = {100: "red", 101: "blue", 102: "green"}


def ratings(rng: np.random.Generator) -> list[tuple[int, int]]:
    rows = []
    for user in range(80):
        own = [item for item, group in GROUPS.items() if group == "ab"[user % 2]]
        rows += [(user, int(item)) for item in rng.permutation(own)[:8]]
    return rows


def of_colours(colours: dict[int, str]) -> list[tuple]:
    return [(item, "colour", colour, None) for item, colour in colours.items()]


@pytest.fixture
def write(lake: Lake) -> Callable[..., None]:
    """Return a function that writes what stage newcomers reads."""

    def put(attributes: list[tuple], vectors: list[tuple] = (), *columns: tuple) -> None:
        spark, rows = lake.spark, ratings(np.random.default_rng(0))
        for phase in ("choose", "final"):
            pairs = spark.createDataFrame(rows, "user_idx int, item_idx int").selectExpr(
                "*", "1D AS rating", "timestamp_seconds(0) AS ts", "true AS observed", "'none' AS fill"
            )
            lake.replace("merged_ratings", pairs, RUN, phase)
            sides = [("none", "user", user, [1.0 - user % 2, 1.0 * (user % 2)]) for user in range(80)]
            sides += [
                ("none", "item", item, [float(group == "a"), float(group == "b")]) for item, group in GROUPS.items()
            ]
            factors = spark.createDataFrame(sides, "fill string, side string, idx int, factors array<float>")
            lake.replace("als_factors", factors, RUN, phase)
        held_out = spark.range(80).selectExpr("int(id) AS user_idx", "0 AS item_idx", "1D AS rating")
        lake.replace("validation_ratings", held_out.selectExpr("*", "timestamp_seconds(0) AS ts"), RUN)
        setting = json.dumps({"embedding_size": 2, "regularisation": 0.1, "alpha": 20.0})
        schema = "parameters string, ndcg double, chosen boolean, base_run_id string"
        lake.replace("als_choices", spark.createDataFrame([(setting, 0.1, True, None)], schema), RUN, "choose")
        values = "item_idx int, name string, value string, number double"
        lake.replace("item_attributes", spark.createDataFrame(attributes, values), RUN)
        schema = "item_idx int, modality string, vector array<float>"
        lake.replace("item_vectors", spark.createDataFrame(list(vectors), schema), RUN)
        known = [("item", name, kind, "", sensitive, 1, 0) for name, kind, sensitive in columns]
        schema = (
            "role string, name string, kind string, guessed_by string, sensitive boolean, n_given long, n_unusable long"
        )
        lake.replace("attribute_columns", spark.createDataFrame(known, schema), RUN)

    return put


def lists(lake: Lake, phase: str) -> dict[int, list[int]]:
    return {row.user_idx: list(row["items"]) for row in lake.read("newcomers_candidates", RUN, phase).collect()}


def chosen(lake: Lake) -> dict | None:
    (row,) = lake.read("newcomers_choices", RUN, "choose").where("chosen").collect()
    return json.loads(row.parameters)


def test_who_rated_red_items_gets_the_new_red_one(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone, write: Callable[..., None]
) -> None:
    known = {item: COLOURS[group] for item, group in GROUPS.items()}
    write(of_colours(known | NEW), [], ("colour", "category", False))
    told = run_alone(make_config(), *STAGES)
    for phase in ("choose", "final"):
        assert lists(lake, phase) == {user: [100 + user % 2] for user in range(80)}
        weights = {row.item_idx: row for row in lake.read("newcomers_weights", RUN, phase).collect()}
        assert weights.keys() == {100, 101}
        assert {GROUPS[item] for item in weights[100].neighbours} == {"a"}
    assert told[1].startswith("2 new items, 80 lists; alike by colour 1; ")
    rows = {row.parameters: row.ndcg for row in lake.read("newcomers_choices", RUN, "choose").collect()}
    assert rows[json.dumps(chosen(lake), sort_keys=True)] > rows["null"]


def test_vectors_tell_what_words_do_not(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone, write: Callable[..., None]
) -> None:
    rng = np.random.default_rng(1)
    colours = dict(zip(GROUPS, map(str, rng.permutation(["red", "blue"] * 15)), strict=True))
    images = {item: [float(group == "a"), float(group == "b"), 0.1] for item, group in GROUPS.items()}
    images |= {100: [3.0, 0.0, 0.0], 101: [0.0, 2.0, 0.0]}
    write(
        of_colours(colours | NEW),
        [(item, "image", vector) for item, vector in images.items()],
        ("colour", "category", False),
        ("image", "vector", False),
    )
    run_alone(make_config(), *STAGES)
    assert chosen(lake)["shares"] == {"image": 1.0}
    assert {user: own[0] for user, own in lists(lake, "final").items()} == {user: 100 + user % 2 for user in range(80)}


def test_attributes_that_say_nothing_or_must_not_be_used_are_not(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone, write: Callable[..., None]
) -> None:
    rng = np.random.default_rng(2)
    shuffled = dict(zip(GROUPS, map(str, rng.permutation(["red", "blue"] * 15)), strict=True))
    write(of_colours(shuffled | NEW), [], ("colour", "category", False))
    told = run_alone(make_config(), *STAGES)
    assert told == ["likeness helps by no more than chance"] * 2
    assert (chosen(lake), lists(lake, "final")) == (None, {})
    known = {item: COLOURS[group] for item, group in GROUPS.items()}
    write(of_colours(known | NEW), [], ("colour", "category", True))
    assert run_alone(make_config(), *STAGES) == ["no attributes of items that may be used"] * 2
    assert (chosen(lake), lists(lake, "choose"), lists(lake, "final")) == (None, {}, {})


def test_items_of_one_colour_speak_more_for_each_other(
    lake: Lake, make_config: Callable[..., Config], run_alone: RunAlone, write: Callable[..., None]
) -> None:
    known = {item: COLOURS[group] for item, group in GROUPS.items()} | {0: "grey", 2: "grey"}
    write(of_colours(known | NEW), [], ("colour", "category", False))
    found = {}
    for strength in (0.0, 2.0):
        config = make_config("item_item.method=rp3beta", "item_item.rp3_beta=[0.3]", f"item_item.likeness=[{strength}]")
        run_alone(config, *STAGES, "item_item_choose", "item_item_final")
        rows = lake.read("item_item_weights", RUN, "final").collect()
        found[strength] = {(a.item_idx, b): w for a in rows for b, w in zip(a.neighbours, a.weights, strict=True)}
    raised = {pair: found[2.0][pair] / weight for pair, weight in found[0.0].items()}
    assert found[0.0].keys() == found[2.0].keys()
    assert raised == pytest.approx({(a, b): 3.0 if known[a] == known[b] else 1.0 for a, b in raised})
    assert [raised[0, 2], raised[4, 6], raised[0, 4]] == pytest.approx([3.0, 3.0, 1.0])
    (row,) = lake.read("item_item_choices", RUN, "final").collect()
    assert json.loads(row.parameters)["likeness"] == 2.0


def test_each_column_alone_all_alike_and_one_twice() -> None:
    assert mixtures(["a"]) == [(("a", 1.0),)]
    assert mixtures(["b", "a"]) == [
        (("b", 1.0),),
        (("a", 1.0),),
        (("a", 0.5), ("b", 0.5)),
        (("a", 1 / 3), ("b", 2 / 3)),
        (("a", 2 / 3), ("b", 1 / 3)),
    ]
