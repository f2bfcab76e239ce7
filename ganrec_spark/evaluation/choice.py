"""Choose among settings by what each judge makes of them: the simplest that is not behind the best by more than noise.

The best of many settings owes part of its lead to the users who judged. The one-standard-error rule (Breiman, Friedman,
Olshen & Stone 1984, section 3.4.3) takes the simplest setting whose shortfall is within the noise; here the noise is
that of the paired difference, since all settings are judged by the same users. Letters: U judges.
"""

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Candidate = TypeVar("Candidate", bound=Hashable)


def standard_error(differences: Floats) -> float:
    """Return the standard error of the mean of paired differences [U]; 0 for fewer than two."""
    n = len(differences)
    return float(differences.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0


def is_ahead(challenger: Floats, incumbent: Floats) -> bool:
    """Return whether the challenger's mean is above the incumbent's by more than the difference's standard error."""
    gain = challenger - incumbent
    return bool(len(gain)) and round(float(gain.mean()), 10) > standard_error(gain)


def simplest(values: Mapping[Candidate, Floats]) -> Candidate:
    """Return the first of the candidates, simplest first, that is within one standard error of the best.

    `values` [U] by candidate: what each judge makes of it, more is better. Means are rounded first: their last bits
    differ with the order of users.
    """
    means = {candidate: round(float(own.mean()), 10) if len(own) else 0.0 for candidate, own in values.items()}
    best = max(means, key=means.__getitem__)
    return next(
        candidate
        for candidate, own in values.items()
        if means[best] - means[candidate] <= standard_error(values[best] - own)
    )
