"""What an arm offers a user: the blend with and without fill, a member's own list, what is popular."""

import numpy as np
import pyarrow as pa
import pytest

from ganrec_spark.blend.fusion import Fusion
from ganrec_spark.blend.served import Serving, offers_of
from ganrec_spark.blend.serving import ALIKE_BIT, POPULARITY_BIT, Catalogue
from ganrec_spark.frames.ship import Shipped
from ganrec_spark.plan.members import MEMBER_NAMES
from ganrec_spark.rules.shipped import ShippedRules

FILL = "vae_top1"
WEIGHTS = np.array([0.4, 0.3, 0.2, 0.1])


def test_each_arm_offers_what_it_is_called() -> None:
    lists = {"als": [1, 2], f"als_{FILL}": [3, 1], "item_item": [2], "transformer": [4, 5], "trending": [0, 6]}
    arms = ("published", "no_fill", "popularity", "als", "transformer")
    columns = {name: pa.array([items] * len(arms), pa.list_(pa.int32())) for name, items in lists.items()}
    seen = pa.array([[0, 1]] * len(arms), pa.list_(pa.int32()))
    nothing = pa.array([None] * len(arms), pa.list_(pa.int32()))
    batch = pa.RecordBatch.from_pydict({**columns, "seen": seen, "alike": nothing})
    filled = (f"als_{FILL}", *MEMBER_NAMES[1:])
    fusions = {
        fill: Fusion(members, WEIGHTS, "ranks", 30.0, 30, Shipped({}))
        for fill, members in (("none", MEMBER_NAMES), (FILL, filled))
    }
    fused = {"none": [(np.array([1]), np.array([0.1]))] * 5, FILL: [(np.array([3]), np.array([0.2]))] * 5}
    how = Serving(FILL, "trending", 2, 3, {}, ShippedRules())
    catalogue = Catalogue(np.array([5, 4, 3, 2, 1, 0]), np.ones(7, bool), np.zeros(8, int), np.array([], int))
    blend, plain, popular, als, transformer = offers_of(batch, fused, fusions, how, arms, catalogue)
    assert blend.blended[0].tolist() == [3]
    assert plain.blended[0].tolist() == [1]
    assert [one.tolist() for one in plain.ranked] == [[1, 2], [2], [4, 5], [0, 6]]
    assert blend.tail.tolist() == plain.tail.tolist() == transformer.tail.tolist() == [0, 6]
    assert (popular.blended[0].tolist(), popular.tail.tolist()) == ([], [5, 4, 3, 2, 1]), "enough for who has seen two"
    assert popular.filler == POPULARITY_BIT
    # The list that goes into the published blend: of ALS the one with the fill.
    assert als.blended[0].tolist() == [3, 1]
    assert transformer.blended[0].tolist() == [4, 5]
    assert transformer.blended[1] == pytest.approx([1 / 31, 1 / 32])
    assert transformer.weights.tolist() == [0, 0, 1, 0]


def test_who_has_a_list_by_attributes_gets_it_where_others_get_the_blend() -> None:
    lists = {name: [] for name in MEMBER_NAMES} | {"trending": [0, 6], "alike": [2, 5], "seen": []}
    arms = ("published", "no_fill", "popularity", "trending")
    columns = {name: pa.array([items] * len(arms), pa.list_(pa.int32())) for name, items in lists.items()}
    scores = {
        f"{name}_scores": pa.array([[0.0] * len(lists[name])] * 4, pa.list_(pa.float32())) for name in MEMBER_NAMES
    }
    batch = pa.RecordBatch.from_pydict({**columns, **scores})
    fusions = {"none": Fusion(MEMBER_NAMES, WEIGHTS, "ranks", 30.0, 30, Shipped({}))}
    fused = {"none": fusions["none"].fused(batch)}
    how = Serving("none", "trending", 2, 3, {}, ShippedRules())
    catalogue = Catalogue(np.array([5, 4, 3, 2, 1, 0]), np.ones(7, bool), np.zeros(8, int), np.array([], int))
    blend, plain, popular, trending = offers_of(batch, fused, fusions, how, arms, catalogue)
    for offer in (blend, plain):
        assert offer.blended[0].tolist() == [2, 5]
        assert offer.blended[1] == pytest.approx([1 / 31, 1 / 32])
        assert (offer.filler, len(offer.ranked)) == (ALIKE_BIT, 0)
    # What arms are compared with stays what it is called.
    assert popular.tail.tolist() == [5, 4, 3]
    assert trending.blended[0].tolist() == [0, 6]
