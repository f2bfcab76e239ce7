"""The same seed trains the same models whatever joins the workers and reads their rows; neither needs the others."""

import itertools
import os
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyspark.cloudpickle
import pytest
from pyspark.sql import SparkSession

from ganrec_spark.config.cluster import Distributed, Launcher, Reader
from ganrec_spark.config.models import Generator
from ganrec_spark.fills.generators.cgan import Start
from ganrec_spark.fills.generators.interactions import Profiles
from ganrec_spark.fills.generators.training import GeneratorPlan
from ganrec_spark.fills.training import train_generators
from ganrec_spark.recommenders.transformer.fit import fit
from ganrec_spark.recommenders.transformer.network import Shape
from ganrec_spark.recommenders.transformer.training import SasRecPlan
from ganrec_spark.training.launcher import train_distributed
from ganrec_spark.training.worker import Worker

# Workers cannot import tests; what they run travels whole, by the pickler of each launcher.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
pyspark.cloudpickle.register_pickle_by_value(sys.modules[__name__])

USERS, ITEMS, LENGTH, FILES, EPOCHS, STEPS = 160, 40, 8, 5, 3, 7


def write_rows(folder: Path) -> list[str]:
    """Write users who walk around the items, in tables user_sequences' and user_rows' columns at once."""
    rng = np.random.default_rng(1)
    items = ((rng.integers(ITEMS, size=USERS)[:, None] + np.arange(LENGTH)) % ITEMS).astype(np.int32)
    lengths = rng.integers(3, LENGTH + 1, USERS).astype(np.int32)
    urls = []
    for number, rows in enumerate(np.array_split(np.arange(USERS), FILES)):
        table = pa.table(
            {
                "items": pa.array(list(items[rows]), pa.list_(pa.int32())),
                "length": lengths[rows],
                "weights": pa.array(list(rng.random((len(rows), LENGTH), np.float32)), pa.list_(pa.float32())),
            }
        )
        pq.write_table(table, folder / f"{number}.parquet")
        urls.append(f"file://{folder}/{number}.parquet")
    return urls


def train_both(worker: Worker, urls: list[str], folder: str, reader: Reader) -> dict[str, object]:
    """Train a SASRec and a cgan, each on all workers together: dropout, clipping, two optimizers, several passes."""
    sasrec = SasRecPlan(
        Shape(ITEMS, LENGTH, embedding_size=8, blocks=1, heads=1, dropout=0.2),
        epochs=EPOCHS,
        steps=STEPS,
        batch_size=32,
        seed=3,
        learning_rate=0.01,
        negatives=8,
        gradient_clip=1.0,
        averaging=2.0,
        catalogue=np.arange(ITEMS),
    )
    settings = Generator(cgan_embedding_size=8).model_dump().items()
    nobody = np.zeros((0, LENGTH), np.int32)
    cgan = GeneratorPlan(
        kind="cgan",
        n_items=ITEMS,
        epochs=EPOCHS,
        patience=EPOCHS,
        steps=STEPS,
        seed=3,
        settings={name: float(value) for name, value in settings if isinstance(value, int | float)},
        start=Start(np.zeros((ITEMS, 8), np.float32), np.zeros(ITEMS, np.float32)),
        catalogue=np.arange(ITEMS),
        watched=Profiles(nobody + 0, nobody.astype(np.float32), nobody + 0),
        watch_held_out=nobody,
    )
    trained: dict[str, Any] = {
        **fit(worker, [sasrec], urls, folder, ["sasrec.pt"], f"{folder}/tensorboard", reader),
        **train_generators(worker, [cgan], urls, 32, folder, None, reader),
    }
    return {name: (result["history"], result["state"]) for name, result in trained.items()}


def test_four_stacks_train_the_same_models_to_the_last_bit(spark: SparkSession, tmp_path: Path) -> None:
    urls = write_rows(tmp_path)
    found = {}
    for launcher, reader in itertools.product(typing.get_args(Launcher), typing.get_args(Reader)):
        folder = tmp_path / f"{launcher}-{reader}"
        folder.mkdir()
        config = Distributed(workers=2, launcher=launcher, reader=reader)
        found[launcher, reader] = train_distributed(
            spark, train_both, config, urls=urls, folder=str(folder), reader=reader
        )
    first = found["horovod", "petastorm"]
    assert set(first) == {"sasrec", "cgan"}
    for name, (history, state) in first.items():  # type: ignore[misc]
        losses = [value for _, key, value in history if key == "loss"]
        assert len(losses) == EPOCHS
        assert losses[-1] < losses[0]
        for stack, models in found.items():
            assert models[name] == (history, state), (name, stack)  # type: ignore[index]


WITHOUT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from ganrec_spark.config.load import load_config
from ganrec_spark.recommenders.transformer import fit
from ganrec_spark.spark.session import build_session
from ganrec_spark.stages import train_generator, transformer
from ganrec_spark.training.launcher import train_distributed
import test_stacks

folder = Path({folder!r})
urls = test_stacks.write_rows(folder)
stack = ["distributed.launcher=torchrun", "distributed.reader=pyarrow"]
config = load_config(overrides=[*stack, f"lake.root={{folder}}/lake", "spark.master=local[2]"], environ={{}})
spark = build_session(config)
for workers in (2, 1):
    own = folder / str(workers)
    own.mkdir()
    found = train_distributed(
        spark,
        test_stacks.train_both,
        config.distributed.model_copy(update={{"workers": workers}}),
        urls=urls,
        folder=str(own),
        reader=config.distributed.reader,
    )
    print(workers, "workers trained", sorted(found))
spark.stop()
"""


def test_torchrun_and_pyarrow_train_where_horovod_and_petastorm_cannot_be_imported(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    for name in ("horovod", "petastorm"):
        (absent / name).mkdir(parents=True)
        (absent / name / "__init__.py").write_text(f"raise ImportError('{name} is not installed')")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(tests=str(Path(__file__).parent), folder=str(tmp_path))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(absent), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    told = [f"{workers} workers trained ['cgan', 'sasrec']" for workers in (2, 1)]
    assert done.stdout.splitlines() == told, done.stderr[-3000:]
    # What is absent is what the default would need.
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(
            [sys.executable, "-c", "import horovod"], env={"PYTHONPATH": str(absent)}, capture_output=True, check=True
        )
