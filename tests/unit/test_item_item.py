import pytest

from ganrec_spark.stages.item_item import beyond_the_edge


@pytest.mark.parametrize(
    ("found", "following"),
    [
        ({100.0: 0.3, 400.0: 0.2}, 25.0),
        ({100.0: 0.2, 400.0: 0.3}, 1600.0),
        ({100.0: 0.3, 400.0: 0.2, 25.0: 0.31}, 6.25),
        ({1.0e30: 0.1, 10.0: 1.0}, 1.0),  # never more than tenfold
        ({100.0: 0.3, 400.0: 0.2, 25.0: 0.29}, None),  # neighbours on both sides
        ({10.0: 1.0, 1.0: 1.0, 100.0: 0.5}, None),  # of equals the first
        ({100.0: 0.3}, None),
        ({float(n): float(n) for n in range(1, 8)}, None),  # enough
    ],
)
def test_the_search_for_lambda_goes_on_beyond_the_better_edge(
    found: dict[float, float], following: float | None
) -> None:
    for method, key in (("ease", "ease_regularisation"), ("normalised_ease", "normalised_regularisation")):
        expected = [] if following is None else [{"method": method, key: following}]
        others = [({"method": "rp3beta", "rp3_beta": 0.3}, 0.9)]
        assert (
            beyond_the_edge(method, [*others, *(({"method": method, key: k}, v) for k, v in found.items())]) == expected
        )
