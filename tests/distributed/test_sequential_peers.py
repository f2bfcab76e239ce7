"""The peers of benchmarks/quality.py that see order, in an environment of their own, on a walk known beforehand."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sequential

pytestmark = pytest.mark.skipif(not sequential.python().exists(), reason="needs .venv-peers; run `make peers`")


def histories() -> sequential.Histories:
    # Everyone walks along the items from their own start, so the next item is known.
    rows = [(user, (user + step) % 30, step, 0) for user in range(90) for step in range(6)]
    whole = pd.DataFrame(rows, columns=["user_idx", "item_idx", "ts", "tie"])
    train, validation = whole[whole["ts"] < 4], whole[whole["ts"] == 4]
    return sequential.Histories(train, validation, np.arange(90))


def test_a_search_begins_with_what_was_published_and_is_taken_again(tmp_path: Path) -> None:
    lists, settings = sequential.sequential_lists(histories(), tmp_path, seed=0, budget=1.0, settings={})
    for name in sequential.NAMES:
        assert "the first as published" in settings[name]["told"]
        assert {split: len(own) for split, own in lists[name].items()} == {"validation": 90, "test": 90}
    # How far a second gets depends on the machine; a hundred steps do not.
    chosen = {name: {**own, "epochs": 100} for name, own in settings.items()}
    for own in chosen.values():
        own["setting"] = {**own["setting"], "lr": 0.01, "n_factors": 32, "n_blocks": 1}
    lists, same = sequential.sequential_lists(histories(), tmp_path, seed=1, budget=0.0, settings=chosen)
    assert same == chosen
    for name in sequential.NAMES:
        for split, step in (("validation", 4), ("test", 5)):
            found = lists[name][split]
            assert not any(set(own) & {(user + past) % 30 for past in range(step)} for user, own in found.items())
            assert np.mean([(user + step) % 30 == own[0] for user, own in found.items()]) > 0.9


SAME = """
import numpy as np, pandas as pd, torch, sys
import sequential_peers as ours
from rectools.models.nn.transformers.lightning import TransformerLightningModule
train = pd.read_parquet(sys.argv[1] + "/train.parquet")
for peer in ours.PEERS:
    training = ours.Training(peer, {**ours.published(train), "dropout_rate": 0.0}, train, 0, ours.of_users(train))
    training.go_on(2)
    model = training.model
    batch = next(iter(model.data_preparator.get_dataloader_train()))
    module = model.lightning_model
    assert module.is_fitted
    module.log = lambda *_, **__: None
    theirs = TransformerLightningModule.training_step(module, batch, 0)
    torch.testing.assert_close(module.training_step(batch, 0), theirs)
    lists = training.lists()
    told = model.recommend(train["user_idx"].unique(), training.dataset, 5, filter_viewed=True)
    for user, own in told.groupby("user_id")["item_id"]:
        assert own.tolist() == lists[user][:5].tolist(), (peer, user)
"""


def test_the_sequential_peers_losses_and_lists_are_rectools_own(tmp_path: Path) -> None:
    sequential.hand_over(histories(), tmp_path)
    paths = f"{sequential.REPOSITORY}:{sequential.REPOSITORY / 'benchmarks'}"
    command = [str(sequential.python()), "-c", SAME, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
