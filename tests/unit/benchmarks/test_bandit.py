"""The comparison of policies on worlds whose click rates are known."""

import bandit
import numpy as np
import pandas as pd
import pytest

RATES = np.array([0.05, 0.1, 0.2, 0.3])
PEAKED = np.array([0.55, 0.25, 0.15, 0.05])
N = 12_000


def impressions(seed: int, changing: bool) -> pd.DataFrame:
    """Return the logs of a uniform policy and of a peaked one, which changes between two states or does not."""
    rng, parts = np.random.default_rng(seed), []
    for policy in ("peaked", "uniform"):
        state = rng.integers(2, size=N) if changing else np.zeros(N, dtype=int)
        chances = np.stack([PEAKED, PEAKED[::-1]]) if policy == "peaked" else np.full((2, 4), 0.25)
        item = (rng.random((N, 1)) > chances[state].cumsum(axis=1)).sum(axis=1).clip(0, 3)
        parts.append(
            pd.DataFrame(
                {
                    "policy": policy,
                    "campaign": "one",
                    "timestamp": pd.Timestamp("2026-11-01")
                    + pd.to_timedelta(rng.integers(7 * 86400, size=N), unit="s"),
                    "item_id": item + 10,
                    "position": rng.integers(1, 4, size=N),
                    "click": rng.random(N) < RATES[item],
                    "propensity_score": chances[state, item].astype(np.float32),
                    "user_feature_0": rng.integers(500, size=N).astype(str),
                }
            )
        )
    return pd.concat(parts)


@pytest.mark.parametrize(("changing", "how", "truth"), [(False, "known", PEAKED @ RATES), (True, "estimated", 0.1625)])
def test_the_other_policys_rate_is_found(changing: bool, how: str, truth: float) -> None:
    found = {(one.policy, one.estimator): one for one in bandit.comparisons(impressions(1, changing))}
    assert len(found) == 4
    for estimator in ("snips", "doubly_robust"):
        peaked, uniform = found["peaked", estimator], found["uniform", estimator]
        assert (peaked.probabilities, uniform.probabilities) == (how, "known")
        assert peaked.low < truth < peaked.high
        assert uniform.low < RATES.mean() < uniform.high
        assert uniform.own_low < RATES.mean() < uniform.own_high
        assert peaked.says == uniform.says == "agrees with its own rate"
        assert peaked.mean_weight == pytest.approx(1, abs=0.05)


def test_clicks_of_the_policy_itself_are_not_looked_at() -> None:
    rows = impressions(2, changing=True)
    without = rows.assign(click=rows["click"] & (rows["policy"] == "uniform"))
    before, after = ([one for one in bandit.comparisons(data) if one.log == "uniform"] for data in (rows, without))
    assert [(one.value, one.low, one.high) for one in before] == [(one.value, one.low, one.high) for one in after]
    assert "does not agree" in after[0].says


def test_what_the_log_never_showed_and_what_is_too_wide_is_said() -> None:
    rows = impressions(3, changing=False)
    gone = rows[(rows["policy"] == "uniform") | (rows["item_id"] < 13)]
    (snips, _) = (one for one in bandit.comparisons(gone) if one.policy == "uniform")
    assert snips.never_shown == pytest.approx(0.25)
    assert "of 25% of what it shows the log knows nothing" in snips.says
    few = rows.groupby("policy").head(60)
    assert all("too wide to mean anything" in one.says for one in bandit.comparisons(few))
    assert "too wide to mean anything" in bandit.page([*bandit.comparisons(few)])
