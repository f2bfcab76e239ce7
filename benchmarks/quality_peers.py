"""The peers on a run's split: how each is tuned on validation, what it lists, and how lists are judged."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from peers import PEERS, Peer, Score, blocks, popularity
from quality_run import DEPTH, OfSystems, Split
from scipy import sparse
from search import Setting, search
from sequential import NAMES, Lists, sequential_lists

from ganrec_spark.evaluation.metrics import hit_matrix, ndcg, recall
from ganrec_spark.frames.top_n import mask_seen, top_n


def everyone() -> list[str]:
    """Return the names of all peers."""
    return [*(peer.name for peer in PEERS), *NAMES]


def allowed(wanted: float | None, seconds: float) -> tuple[float, str]:
    """Return a peer's budget, which is at least half of the pipeline's `seconds`, and what the page says of it."""
    budget = max(wanted or seconds, seconds / 2)
    words = f"Each peer's search had {budget:.0f} s, {100 * budget / seconds:.0f} % of the pipeline's time"
    if wanted and wanted < budget:
        words += f"; --budget {wanted:g} was lifted to that, the least there is"
    return budget, words + "."


def tuned_peers(split: Split, budget: float, seed: int, wanted: Sequence[str]) -> tuple[dict[str, Setting], list[str]]:
    """Return peer -> setting of those wanted that can rank so large a catalogue, and in words how each was found."""
    n_items = split.train.shape[1]
    settings, told = {}, []
    for peer in (peer for peer in PEERS if peer.name in wanted):
        if n_items > peer.max_items:
            told.append(f"{peer.name}: left out, {n_items} items are more than {peer.max_items}")
        else:
            settings[peer.name], how = tuned(peer, split, budget, seed)
            told.append(f"{peer.name}: {how}")
        print(told[-1], file=sys.stderr, flush=True)
    return settings, told


def peer_lists(split: Split, settings: dict[str, Setting], seed: int) -> OfSystems:
    """Return (kind, system) -> lists on validation and test of every peer with a setting."""
    found = {}
    for peer in PEERS:
        if peer.name in settings:
            setting = settings[peer.name]
            validation = ranked(peer.fit(split.train, setting, seed), split.train, split.validation)
            test = ranked(peer.fit(split.fitted, setting, seed), split.fitted, split.test)
            found["peer", peer.name] = (validation, test)
    return found


def sequential_peers(
    split: Split, folder: Path, seed: int, budget: float, settings: dict[str, Any], names: Sequence[str]
) -> tuple[OfSystems, dict[str, Any]]:
    """Return what `peer_lists` does of the peers that see order, and their settings, searched where none are given.

    Users that they have no list for, because no rating is known, get the popular items, as with every peer.
    """
    if split.histories is None:
        raise ValueError("expected a split with its ratings in order, found only matrices; read it by read_split")
    lists, settings = sequential_lists(split.histories, folder, seed, budget, settings, names)
    popular = [
        ranked(popularity(ratings, {}, 0), ratings, wanted)
        for ratings, wanted in ((split.train, split.validation), (split.fitted, split.test))
    ]
    return {
        ("peer", name): (popular[0] | own["validation"], popular[1] | own["test"]) for name, own in lists.items()
    }, settings


def tuned(peer: Peer, split: Split, budget: float, seed: int) -> tuple[Setting, str]:
    """Return the setting with the best NDCG@10 on validation, searched until the budget is spent, and how in words."""
    if len(peer.settings) == 1:
        return peer.settings[0], "has no settings"

    def evaluate(setting: Setting, left: float) -> float:
        lists = ranked(peer.fit(split.train, setting, seed), split.train, split.validation)
        return float(judged(lists, split.validation, (10,))["ndcg@10"].mean())

    order = np.random.default_rng(seed).permutation(len(peer.settings))
    found = search([peer.settings[index] for index in order], evaluate, budget)
    words = ", ".join(f"{name} {choice:g}" for name, choice in found.setting.items())
    return found.setting, (
        f"{words}; best of {found.n_tried} settings tried (a grid of {len(peer.settings)}, its best one's neighbours); "
        f"validation NDCG@10 {found.value:.4f}; {found.ended}"
    )


def ranked(score: Score, ratings: sparse.csr_matrix, wanted: Lists) -> Lists:
    """Return the best unseen items of the users in `wanted`; users without ratings get the popular ones."""
    catalogue = ratings.getnnz(axis=0) > 0
    anyone = popularity(ratings, {}, 0)(slice(0, 1))
    lists: Lists = {}
    for block in blocks(ratings.shape[0]):
        scores = np.array(score(block), dtype=np.float32)
        rows = ratings[block]
        scores[np.diff(rows.indptr) == 0] = anyone
        scores[:, ~catalogue] = -np.inf
        mask_seen(scores, np.split(rows.indices, rows.indptr[1:-1]))
        best, _ = top_n(scores, DEPTH)
        lists |= {user: row for user, row in zip(range(block.start, block.stop), best, strict=True) if user in wanted}
    return lists


def judged(lists: Lists, relevant: Lists, ks: tuple[int, ...]) -> pd.DataFrame:
    """Return user_idx and recall@k, ndcg@k of every user in `relevant`; ndcg@10 always, for choosing."""
    users = sorted(relevant)
    empty = np.empty(0, np.int32)
    hits = hit_matrix([lists.get(user, empty) for user in users], [relevant[user] for user in users], DEPTH)
    counts = np.array([len(relevant[user]) for user in users])
    columns = {"user_idx": np.array(users)}
    for k in sorted({10, *ks}):
        columns |= {f"recall@{k}": recall(hits, counts, k), f"ndcg@{k}": ndcg(hits, counts, k)}
    return pd.DataFrame(columns)
