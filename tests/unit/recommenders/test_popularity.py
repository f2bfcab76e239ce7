"""The first unseen items of an order: as by looking at every item, whoever has seen how many."""

import numpy as np
import pytest

from ganrec_spark.recommenders import popularity
from ganrec_spark.recommenders.popularity import first_unseen, places_in


@pytest.mark.parametrize("places", [1, 50, 4_000_000])
@pytest.mark.parametrize("n", [1, 5, 100])
def test_as_by_looking_at_every_item(monkeypatch: pytest.MonkeyPatch, places: int, n: int) -> None:
    monkeypatch.setattr(popularity, "_PLACES", places)
    rng = np.random.default_rng(0)
    order = (3 * rng.permutation(40) + 1).astype(np.int32)  # two of three indices are no item of the order
    seen = [rng.choice(150, size, replace=False) for size in (0, 3, 150, 0, 20, 1, 80)]
    expected = [[place for place, item in enumerate(order) if item not in items][:n] for items in seen]
    assert [own.tolist() for own in first_unseen(places_in(order), seen, n)] == expected


def test_of_no_items_and_of_nobody() -> None:
    none = np.empty(0, np.int32)
    assert [own.tolist() for own in first_unseen(places_in(none), [np.array([3]), none], 5)] == [[], []]
    assert first_unseen(places_in(np.array([2, 0], np.int32)), [], 5) == []
