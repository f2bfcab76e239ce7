"""Split ratings by one moment for all users, so that nothing is learnt from what others rated after the test.

The global temporal split of Gusak et al. (RecSys 2025, "Time to Split"), first target: the ratings up to the quantile
`share` of all times are for training, the last of these, after the same quantile of their own times, for choosing. A
test user's target is the first rating after the cut, so that the history that is read is all that came before it.

Where we differ from their code: users without a rating before the cut are left out (they keep those with two ratings
after it); users with one are kept (they ask for two); the final models are trained on the validation ratings, too; all
validation ratings of a user are targets, where they take one of each.
"""

import pandas as pd
from ties import in_time


def by_global_time(ratings: pd.DataFrame, share: float) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the ratings without those after a user's target, and the settings that make the pipeline split so.

    `share`, 0 to 1: the quantile of the cut. In: user_id, item_id, timestamp in seconds. A pair that is rated again
    counts once, at its first time: a target is always new. Raises ValueError where timestamps are places in a history,
    or where a part would be empty.
    """
    first_times = ratings.groupby("user_id")["timestamp"].min()
    if len(first_times) > 1 and first_times.nunique() == 1:
        raise ValueError(
            "expected times that users share, found that every history starts at "
            f"{first_times.iloc[0]}: timestamps that are places in a history say nothing of other users' ratings"
        )
    ordered = in_time(ratings).drop_duplicates(["user_id", "item_id"])
    test_after = ordered["timestamp"].quantile(share)
    before, after = ordered[ordered["timestamp"] <= test_after], ordered[ordered["timestamp"] > test_after]
    validation_after = before["timestamp"].quantile(share)
    n_validation = int((before["timestamp"] > validation_after).sum())
    targets = after[after["user_id"].isin(before["user_id"])].drop_duplicates("user_id")
    if not len(targets) or not n_validation:
        raise ValueError(
            f"expected ratings after the quantile {share:g} of all times, found {len(targets)} targets and "
            f"{n_validation} validation ratings; choose another share"
        )
    kept = pd.concat([before, targets], ignore_index=True)
    # split.protocol=temporal takes the newest seconds that fit into a share: half a rating more, and rounding is none.
    shares = {"test_share": len(targets), "validation_share": n_validation}
    settings = (f"split.{name}={(n + 0.5 * (name == 'test_share')) / len(kept)!r}" for name, n in shares.items())
    return kept, ("split.protocol=temporal", *settings)
