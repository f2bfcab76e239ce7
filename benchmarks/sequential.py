"""The way to the peers that see the order of ratings: RecTools', in an environment of their own (`make peers`)."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parents[1]
NAMES = ("SASRec", "eSASRec")
Lists = dict[int, NDArray[np.int32]]


@dataclass(frozen=True)
class Histories:
    """One run's ratings in time: `user_idx`, `item_idx`, `ts` and `tie`, the pipeline's order of equal times."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test_users: NDArray[np.int64]


def python() -> Path:
    """Return the Python of the peers' environment, which may not exist."""
    return REPOSITORY / os.environ.get("GANREC_PEERS_VENV", ".venv-peers") / "bin" / "python"


def required() -> None:
    """End the program where the peers' environment is missing."""
    if not python().exists():
        sys.exit(
            f"expected the sequential peers' environment in {python().parents[1]}, found none; run `make peers`, "
            "or leave SASRec and eSASRec out by --peers"
        )


def in_order(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return the ratings as the pipeline orders them, oldest first: by time, then `tie`, then item."""
    return ratings.sort_values(["user_idx", "ts", "tie", "item_idx"], kind="stable", ignore_index=True)


def hand_over(histories: Histories, folder: Path) -> None:
    """Write what sequential_peers.py reads: ratings with their position in the user's history, and the test's users.

    What the users rated in the test stays here. Positions count validation ratings, too, that may lie between others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": histories.train, "validation": histories.validation}
    ordered = in_order(pd.concat([rows.assign(part=name) for name, rows in parts.items()]))
    ordered["position"] = ordered.groupby("user_idx").cumcount()
    for name in parts:
        own = ordered[ordered["part"] == name]
        own[["user_idx", "item_idx", "position"]].to_parquet(folder / f"{name}.parquet", index=False)
    pd.DataFrame({"user_idx": histories.test_users}).to_parquet(folder / "test_users.parquet", index=False)


def sequential_lists(
    histories: Histories,
    folder: Path,
    seed: int,
    budget: float,
    settings: dict[str, Any],
    names: Sequence[str] = NAMES,
) -> tuple[dict[str, dict[str, Lists]], dict[str, Any]]:
    """Return peer -> "validation" and "test" -> lists, and peer -> what was chosen, with words in "told".

    Where `settings` is empty each peer is searched for `budget` seconds; with those of an earlier call it is fitted.
    """
    hand_over(histories, folder)
    script = str(Path(__file__).with_name("sequential_peers.py"))
    command = [str(python()), script, str(folder), f"--seed={seed}", "--peers", *names]
    if settings:
        (folder / "chosen.json").write_text(json.dumps(settings))
        command.append(f"--settings={folder / 'chosen.json'}")
    else:
        command.append(f"--budget={budget:g}")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, check=False, stdout=sys.stderr, env=environment)
    if done.returncode:
        sys.exit(f"sequential_peers.py ended with exit code {done.returncode}; its message is above")
    lists: dict[str, dict[str, Lists]] = {name: {"validation": {}, "test": {}} for name in names}
    for row in pd.read_parquet(folder / "lists.parquet").itertuples(index=False):
        lists[row.peer][row.split][int(row.user_idx)] = np.asarray(row.items, np.int32)
    return lists, json.loads((folder / "settings.json").read_text())
