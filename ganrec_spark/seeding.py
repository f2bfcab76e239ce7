"""Seeds that depend on names alone: not on partitions, retries, workers or the Python process."""

import hashlib

import numpy as np


def stable_seed(*parts: object) -> int:
    """Return a 63-bit seed from the text of `parts`; equal parts give equal seeds on every machine.

    `hash()` is salted per process and would differ between executors.
    """
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def stable_rng(*parts: object) -> np.random.Generator:
    """Return a NumPy generator seeded by `stable_seed(*parts)`."""
    return np.random.default_rng(stable_seed(*parts))
