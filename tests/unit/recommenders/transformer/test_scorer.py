import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ganrec_spark.recommenders.transformer.candidates import _scorer
from ganrec_spark.recommenders.transformer.network import SASRec, Shape


class Sent(dict[str, NDArray[np.float32]]):
    """The arrays that Spark would ship."""

    def file(self, name: str) -> str:
        return f"{id(self)}/{name}"


def test_a_users_scores_do_not_hang_on_who_stands_beside() -> None:
    shape = Shape(n_items=300, max_length=20, embedding_size=16, heads=2, blocks=2, dropout=0.2)
    torch.manual_seed(1)
    state = {name: value.numpy() for name, value in SASRec(shape).state_dict().items()}
    sent = Sent(**state, catalogue_bias=np.zeros(300, dtype=np.float32))
    score = _scorer([sent], shape, sorted(state))  # type: ignore[list-item]
    rng = np.random.default_rng(1)
    histories = [rng.integers(0, 300, n % 25 + 1).tolist() for n in range(90)]

    def scored(users: list[list[int]]) -> NDArray[np.float32]:
        return score(pa.RecordBatch.from_arrays([pa.array(users, pa.list_(pa.int32()))], ["sequence"]))

    together = scored(histories)
    assert np.allclose(np.exp(together).sum(axis=1), 1)
    for place, history in enumerate(histories):
        assert np.array_equal(scored([history])[0], together[place])
    order = rng.permutation(90)
    assert np.array_equal(scored([histories[place] for place in order]), together[order])
