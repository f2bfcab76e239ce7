"""Choose among settings by what each judge makes of them: the simplest that is not behind the best by more than noise.

The best of many settings owes part of its lead to the users who judged. The one-standard-error rule (Breiman, Friedman,
Olshen & Stone 1984, section 3.4.3) takes the simplest setting whose shortfall is within the noise; here the noise is
that of the paired difference, since all settings are judged by the same users. Letters: U judges.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Value = TypeVar("Value", bound=Hashable)


def in_words(setting: Mapping[str, Any]) -> str:
    """Return keys and values for a person to read: `alpha 20, embedding_size 64`; a key without a value is left out."""
    known = {key: value for key, value in setting.items() if value is not None}
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in known.items()
    )


def standard_error(differences: Floats) -> float:
    """Return the standard error of the mean of paired differences [U]; 0 for fewer than two."""
    n = len(differences)
    return float(differences.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0


def is_ahead(challenger: Floats, incumbent: Floats) -> bool:
    """Return whether the challenger's mean is above the incumbent's by more than the difference's standard error."""
    gain = challenger - incumbent
    return bool(len(gain)) and round(float(gain.mean()), 10) > standard_error(gain)


def simplest(found: Mapping[Value, Floats]) -> Value:
    """Return the first of the values, simplest first, that is within one standard error of the best.

    `found` [U] by value: what each judge makes of it, more is better. Means are rounded first: their last bits
    differ with the order of users.
    """
    means = {value: round(float(own.mean()), 10) if len(own) else 0.0 for value, own in found.items()}
    best = max(means, key=means.__getitem__)
    return next(
        value for value, own in found.items() if means[best] - means[value] <= standard_error(found[best] - own)
    )


def foremost(found: Mapping[Value, Floats]) -> Value:
    """Return the value that no later one is ahead of: the first one stands until another is (`is_ahead`)."""
    best, *others = found
    for value in others:
        if is_ahead(found[value], found[best]):
            best = value
    return best


def highest(found: Mapping[Value, Floats]) -> Value:
    """Return the value of the largest mean, of equals the first."""
    return max(found, key=lambda value: float(found[value].mean()))


def search(
    values: Iterable[Value],
    judge: Callable[[Value], Floats],
    choose: Callable[[Mapping[Value, Floats]], Value],
    beyond: Callable[[Value, Collection[Value]], Value | None],
) -> Value:
    """Return the value that `choose` takes of those given and of those beyond them.

    `judge` gives what each judge makes of a value [U]. `beyond`, asked with the choice so far and all values that were
    tried, names the next one to try, where the choice is at their edge; None ends the search.
    """
    found = {value: judge(value) for value in dict.fromkeys(values)}
    while (following := beyond(choose(found), found.keys())) is not None:
        found[following] = judge(following)
    return choose(found)
