"""Lists are the same however many users are scored at a time, and no more scores are held than are allowed."""

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from ganrec_spark.frames.top_n import mask_seen, top_n
from ganrec_spark.recommenders import catalogue
from ganrec_spark.recommenders.catalogue import by_score

SCORES = np.random.default_rng(3).standard_normal((100, 50), dtype=np.float32)


@pytest.mark.parametrize(("cells", "most"), [(1, 1), (350, 7), (2**25, 84)])
def test_blocks_are_cut_where_items_are_many(cells: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_CELLS", cells)
    sizes = []

    def score(block: pa.RecordBatch) -> NDArray[np.float32]:
        sizes.append(block.num_rows)
        return SCORES[block.column("user_idx").to_numpy()].copy()

    seen = [np.arange(user % 50) for user in range(100)]
    items, values = by_score(score)(pa.table({"user_idx": np.arange(100)}).to_batches()[0], seen, 5)
    expected = SCORES.copy()
    mask_seen(expected, seen)
    assert [own.tolist() for own in items] == [own.tolist() for own in top_n(expected, 5)[0]]
    assert [own.tolist() for own in values] == [own.tolist() for own in top_n(expected, 5)[1]]
    assert sizes[0] == 16, "how many items there are is found with a few users"
    assert max(sizes[1:]) == most
