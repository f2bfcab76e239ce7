"""The strongest weights of each row, by hand."""

import numpy as np

from ganrec_spark.fills.neighbours import strongest


def test_positive_largest_with_ties_by_column() -> None:
    weights = np.array([[0.0, 0.5, 0.5, 0.5], [-1.0, 0.0, 0.2, -0.1], [0.3, 0.1, 0.0, 0.2]], np.float32)
    assert (
        strongest(weights, 2).toarray().tolist()
        == np.array([[0, 0.5, 0.5, 0], [0, 0, 0.2, 0], [0.3, 0, 0, 0.2]], np.float32).tolist()
    )
    assert strongest(weights, 9).nnz == 7
