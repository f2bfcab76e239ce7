"""Which arm a user is in: by shares, the same for ever, another draw for another salt, nobody moved without need."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from ganrec_spark.config.lists import Experiment
from ganrec_spark.config.load import load_config
from ganrec_spark.errors import ConfigError
from ganrec_spark.experiment.arms import arm_of, place_of

USERS = [f"user-{number}" for number in range(20_000)]


def experiment(*arms: tuple[str, float], salt: str = "1") -> Experiment:
    told = ", ".join(f"{{name: {name}, share: {share}, lists: popularity}}" for name, share in arms)
    return load_config(overrides=[f"experiment.arms=[{told}]", f"experiment.salt='{salt}'"], environ={}).experiment


def arms_of(which: Experiment) -> list[str]:
    return [arm_of(user, which) for user in USERS]


def test_a_client_can_compute_the_arm_by_the_words_of_the_documentation() -> None:
    digest = hashlib.sha256(b"spring:user-7").hexdigest()
    assert place_of("user-7", "spring") == int(digest[:13], 16) / 16**13
    # printf 'spring:user-7' | sha256sum
    assert digest.startswith("348fed81")
    assert 0 <= place_of("é", "1") < 1


def test_shares_are_hit_within_binomial_bounds() -> None:
    shares = {"a": 0.05, "b": 0.25, "c": 0.7}
    counts = Counter(arms_of(experiment(*shares.items())))
    for name, share in shares.items():
        deviation = (share * (1 - share) * len(USERS)) ** 0.5
        assert abs(counts[name] - share * len(USERS)) < 4 * deviation


def test_nobody_moves_without_need() -> None:
    first = arms_of(experiment(("a", 0.2), ("b", 0.3), ("c", 0.5)))
    assert arms_of(experiment(("c", 0.5), ("a", 0.2), ("b", 0.3))) == first, "positions in the file do not matter"
    wider = arms_of(experiment(("a", 0.3), ("b", 0.2), ("c", 0.5)))
    moved = {(old, new) for old, new in zip(first, wider, strict=True) if old != new}
    assert moved == {("b", "a")}, "c keeps its users"
    assert sum(old != new for old, new in zip(first, wider, strict=True)) == pytest.approx(0.1 * len(USERS), rel=0.1)


def test_two_salts_are_two_independent_draws() -> None:
    halves = (("a", 0.5), ("b", 0.5))
    one, other = (np.array(arms_of(experiment(*halves, salt=salt))) == "a" for salt in ("1", "2"))
    assert abs((one & other).mean() - 0.25) < 4 * (0.25 * 0.75 / len(USERS)) ** 0.5


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("experiment.arms=[{name: a, share: 0.9, lists: published}]", ["experiment", "sum to 1", "0.9"]),
        ("experiment.arms=[]", ["experiment.arms"]),
        (
            "experiment.arms=[{name: a, share: 1.0, lists: best}]",
            ["experiment.arms.0.lists", "no_fill", "als", "'best'"],
        ),
        ("experiment.arms=[{name: A b, share: 1.0, lists: als}]", ["experiment.arms.0.name"]),
        ("experiment.arms=[{name: a, share: 1.5, lists: als}, {name: b, share: -0.5, lists: als}]", ["arms.0.share"]),
        (
            "experiment.arms=[{name: a, share: 0.5, lists: als}, {name: a, share: 0.5, lists: published}]",
            ["names of arms must differ", "a, a"],
        ),
        ("experiment.salt=''", ["experiment.salt"]),
        ("explore.slots=11", ["explore.slots 11", "recommend.n 10"]),
        ("explore={slots: 10, min_propensity: 0.02}", ["explore.min_propensity 0.02", "100 items", "at most 0.0100"]),
        ("rules.max_per_category=2", ["rules", "item_categories and max_per_category go together"]),
    ],
)
def test_bad_settings_are_one_clear_error(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(overrides=[override], environ={})
    for word in words:
        assert word in str(error.value)


def test_a_floor_that_many_candidates_cannot_share_counts_only_where_something_is_drawn() -> None:
    assert load_config(overrides=["explore.min_propensity=0.5"], environ={}).explore.min_propensity == 0.5
