"""How phase final of the Transformer follows from what phase choose found."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ganrec_spark.recommenders.transformer.fit import _fingerprint
from ganrec_spark.recommenders.transformer.network import Shape
from ganrec_spark.recommenders.transformer.plans import as_chosen
from ganrec_spark.recommenders.transformer.training import SasRecPlan


def plans(*radii: float) -> list[SasRecPlan]:
    shape, catalogue = Shape(5, 4, 8, 1, 1, 0.0), np.arange(5)
    return [
        SasRecPlan(shape, 100, 3, 2, i, 0.01, 4, 5.0, 2.0, catalogue, adversary_radius=radius, name=f"sasrec_{i}")
        for i, radius in enumerate(radii)
    ]


def history(*models: tuple[int | None, float]) -> pd.DataFrame:
    """Rows of transformer_history of models: the epoch that was kept, None where given up, and its NDCG@10."""
    rows: list[tuple[str, int, str, float]] = []
    for i, (epoch, ndcg) in enumerate(models):
        rows += [(f"sasrec_{i}", 1, "loss", 2.0), (f"sasrec_{i}", 1, "validation_ndcg", ndcg / 2)]
        rows.append((f"sasrec_{i}", epoch or 2, "validation_ndcg", ndcg))
        rows += [(f"sasrec_{i}", epoch, "best_epoch", float(epoch))] if epoch else []
    return pd.DataFrame(rows, columns=["model", "epoch", "name", "value"])


@pytest.mark.parametrize(
    ("radii", "found", "epochs", "begun", "radius"),
    [
        # The winner's epochs are those of the model that tried another radius, too; each goes on from its own weights.
        ((0.0, 0.1), [(6, 0.10), (9, 0.11)], [9, 9], [0, 1], 0.1),
        ((0.0, 0.1), [(6, 0.10), (9, 0.09)], [6, 6], [0, 1], 0.0),
        # 1 % is not enough for a radius after the first.
        ((0.0, 0.1), [(6, 0.10), (9, 0.101)], [6, 6], [0, 1], 0.0),
        ((0.1, 0.0), [(6, 0.10), (9, 0.101)], [6, 6], [0, 1], 0.1),
        # Means of .10 and .11 over two models each; each winner keeps its own epochs, the others train 10.
        ((0.0, 0.1, 0.0, 0.1), [(6, 0.08), (9, 0.10), (3, 0.12), (11, 0.12)], [10, 9, 10, 11], [0, 1, 2, 3], 0.1),
        # Without validation users every epoch is kept and nothing is known: the first radius.
        ((0.0, 0.1), [(30, 0.0), (30, 0.0)], [30, 30], [0, 1], 0.0),
        # What was given up is no choice, but its model trains with the other radius, from the other one's weights.
        ((0.0, 0.1), [(None, 0.001), (9, 0.09)], [9, 9], [1, 1], 0.1),
        # Of one radius a seed that was given up is not trained again.
        ((0.1, 0.1), [(None, 0.001), (9, 0.09)], [9], [1], 0.1),
        ((0.0, 0.1), [(None, 0.001), (None, 0.002)], [], [], None),
    ],
)
def test_phase_final_takes_the_radius_that_was_best_and_its_epochs(
    radii: tuple[float, ...],
    found: list[tuple[int | None, float]],
    epochs: list[int],
    begun: list[int],
    radius: float | None,
) -> None:
    chosen = as_chosen(plans(*radii), history(*found))
    assert [plan.epochs for plan, _ in chosen] == epochs
    assert [name for _, name in chosen] == [f"sasrec_{model}" for model in begun]
    assert all(plan.adversary_radius == radius for plan, _ in chosen)


def test_where_phase_choose_trained_nothing_the_plans_stay_as_they_are() -> None:
    given = plans(0.0, 0.1)
    assert as_chosen(given, history()) == [(plan, None) for plan in given]


def test_a_training_that_goes_on_from_other_weights_is_another_one() -> None:
    plan = plans(0.0)[0]
    prints = [_fingerprint(replace(plan, start=start)) for start in (b"", b"some", b"other", b"some")]
    assert len(set(prints[:3])) == 3
    assert prints[3] == prints[1]
