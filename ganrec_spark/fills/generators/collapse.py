"""Watch a generator for collapse: does it still say different things to different users."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ganrec_spark.evaluation.metrics import gini
from ganrec_spark.fills.generators.by_name import Generator
from ganrec_spark.fills.generators.interactions import Profiles
from ganrec_spark.frames.top_n import mask_seen, top_n

WATCHED_ITEMS = 10
_BLOCK = 256


def watch(
    generator: Generator,
    profiles: Profiles,
    half_life: float | None,
    catalogue: NDArray[np.int64],
    noise: NDArray[np.float32],
    device: torch.device,
) -> dict[str, float]:
    """Return distinct_items, distinct_share, gini_generated and gini_observed over a sample of users.

    `profiles` of W users, whose items' say fades with `half_life`; `catalogue` the items that may be generated; noise
    [W, noise_size].
    Generated are each user's ten best unseen items. distinct_share is distinct_items over the most that was
    possible; gini_observed is that of the sample's last ten items each, so the two Ginis count as many rows.
    """
    counts = _counts(generated(generator, profiles, half_life, catalogue, noise, device), catalogue)
    observed = _counts([row[row >= 0][-WATCHED_ITEMS:] for row in profiles.items], catalogue)
    distinct = float((counts > 0).sum())
    return {
        "distinct_items": distinct,
        "distinct_share": distinct / max(1, min(len(catalogue), WATCHED_ITEMS * len(profiles))),
        "gini_generated": gini(counts, len(catalogue)),
        "gini_observed": gini(observed, len(catalogue)),
    }


def generated(
    generator: Generator,
    profiles: Profiles,
    half_life: float | None,
    catalogue: NDArray[np.int64],
    noise: NDArray[np.float32],
    device: torch.device,
) -> list[NDArray[np.int32]]:
    """Return each user's WATCHED_ITEMS best unseen items of the catalogue, best first; arguments as of `watch`."""
    fills: list[NDArray[np.int32]] = []
    for start in range(0, len(profiles), _BLOCK):
        part = slice(start, start + _BLOCK)
        block = profiles[part]
        scores = score_block(generator, block, half_life, noise[part], device)
        allowed = np.full_like(scores, -np.inf)
        allowed[:, catalogue] = scores[:, catalogue]
        mask_seen(allowed, [row[(row >= 0) & (row < scores.shape[1])] for row in block.items])
        fills += top_n(allowed, WATCHED_ITEMS)[0]
    return fills


def score_block(
    generator: Generator,
    profiles: Profiles,
    half_life: float | None,
    noise: NDArray[np.float32],
    device: torch.device,
) -> NDArray[np.float32]:
    """Return log scores [B, I] of a block of users, dropout off and no gradient kept."""
    training = generator.training
    generator.eval()
    with torch.no_grad():
        scores = generator.score(
            torch.from_numpy(profiles.items.astype(np.int64)).to(device),
            torch.from_numpy(profiles.weights).to(device),
            torch.from_numpy(profiles.recency(half_life)).to(device),
            torch.from_numpy(noise).to(device),
        )
    generator.train(training)
    result: NDArray[np.float32] = scores.cpu().numpy()
    return result


def _counts(lists: Sequence[NDArray[np.int32]], catalogue: NDArray[np.int64]) -> NDArray[np.float64]:
    size = int(catalogue.max(initial=0)) + 1
    flat = np.concatenate(lists) if lists else np.zeros(0, dtype=np.int64)
    counts = np.bincount(flat[flat < size], minlength=size).astype(np.float64)
    return counts[catalogue]
