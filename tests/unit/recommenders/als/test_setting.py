"""The search for ALS's setting finds the optimum of a known surface, also beyond the configured values."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from ganrec_spark.config.models import Als
from ganrec_spark.recommenders.als.search import AlsSearch, first_setting
from ganrec_spark.recommenders.als.setting import AlsSetting

CONFIG = {"embedding_size": (16, 32), "max_embedding_size": 64, "regularisation": (0.2, 0.1, 0.4), "alpha": (1.0, 20.0)}


def surface(size: float, regularisation: float, alpha: float, *rest: object):
    """Return a score with its one peak there; a wrong scale, half-life or weight against items costs .01."""
    scale, half_life, *against, _ = (*rest, *("raw", None, 0.0, 0.0, True)[len(rest) :])

    def score(setting: AlsSetting) -> NDArray[np.float64]:
        far = abs(math.log(setting.embedding_size / size)) + abs(math.log(setting.regularisation / regularisation))
        far += abs(math.log(setting.alpha / alpha))
        wrong = (setting.rating_scale != scale) + (setting.half_life_days != half_life)
        wrong += [setting.dislike_weight, setting.ignored_weight] != against
        return np.array([1 / (1 + far) - 0.01 * wrong])

    return score


@pytest.mark.parametrize(
    "peak",
    [
        AlsSetting(16, 0.2, 1.0),
        AlsSetting(32, 0.4, 20.0, "log", 365.0),
        AlsSetting(64, 0.025, 60.0, "log"),
        AlsSetting(8, 1.6, 1 / 9, "raw", 365.0),
        AlsSetting(16, 0.2, 1.0, dislike_weight=1.0),
        AlsSetting(16, 0.2, 1.0, ignored_weight=0.03),
    ],
)
def test_the_peak_is_found(peak: AlsSetting) -> None:
    search = AlsSearch(Als(**CONFIG), surface(*vars(peak).values()))
    found = search.best()
    assert vars(found) == pytest.approx(vars(peak))
    assert search.found[found][0] == max(values[0] for values in search.found.values())


@pytest.mark.parametrize(("gain", "size"), [(1.04, 16), (1.06, 64)])
def test_twice_the_factors_have_to_gain_five_percent(gain: float, size: int) -> None:
    def score(setting: AlsSetting) -> NDArray[np.float64]:
        return np.array([1.0]) * gain ** math.log2(setting.embedding_size / 16)

    assert AlsSearch(Als(**CONFIG), score).best().embedding_size == size


def test_the_search_ends_at_the_largest_size_allowed_and_after_four_steps() -> None:
    found = AlsSearch(Als(**CONFIG), surface(1024, 0.2, 2000.0)).best()
    assert found.embedding_size == 64
    assert found.alpha == 20 * 3**4


def test_single_values_are_taken_without_a_look() -> None:
    def score(_: AlsSetting) -> NDArray[np.float64]:
        raise AssertionError

    single = {"rating_scale": ("log",), "half_life_days": (9.0,), "dislike_weight": (0.3,), "ignored_weight": (0.1,)}
    config = Als(embedding_size=(8,), regularisation=(0.3,), alpha=(2.0,), **single)
    assert AlsSearch(config, score).best() == AlsSetting(8, 0.3, 2.0, "log", 9.0, 0.3, 0.1)


def test_without_times_or_confidence_there_is_less_to_choose() -> None:
    tried: list[AlsSetting] = []

    def score(setting: AlsSetting) -> NDArray[np.float64]:
        tried.append(setting)
        return np.zeros(1)

    AlsSearch(Als(), score, idle={"half_life_days", "rating_scale", "dislike_weight", "ignored_weight"}).best()
    unused = {(setting.half_life_days, setting.dislike_weight, setting.ignored_weight) for setting in tried}
    assert unused == {(None, 0.0, 0.0)}
    assert not any("dislike" in setting.text() or "ignored" in setting.text() for setting in tried)
    assert len(set(tried)) == len(tried)
    tried.clear()
    AlsSearch(Als(implicit=False), score).best()
    explicit = {(one.alpha, one.rating_scale, one.half_life_days, one.ignored_weight) for one in tried}
    assert explicit == {(0.3, "raw", None, 0.0)}
    assert first_setting(Als(rating_scale=("log",), implicit=False)).rating_scale == "raw"


def test_few_judges_do_not_move_a_key_by_less_than_the_noise_of_their_number() -> None:
    # alpha 20 gains .02 with a spread of .2: among 25 judges that is half a standard error, among 2,500 five of them.
    def judged(n: int) -> AlsSetting:
        def score(setting: AlsSetting) -> NDArray[np.float64]:
            noise = np.resize([0.2, -0.2], n)
            return 0.5 + (setting.alpha == 20.0) * (0.02 + noise) - (setting.alpha > 20.0) * 0.3

        config = Als(embedding_size=(8,), regularisation=(0.3,), alpha=(1.0, 20.0), half_life_days=(None,))
        return AlsSearch(config, score, idle={"rating_scale", "ignored_weight"}).best()

    assert judged(26).alpha == 1.0
    assert judged(2500).alpha == 20.0
