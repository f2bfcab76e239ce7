"""Measure the generators: as recommenders, each against its twin, as fills, and whether the gate judges them rightly.

    .venv/bin/python benchmarks/generators.py DATASET... [--cut SHARE] [--fills-only] [--set KEY=VALUE] [--work DIR]

DATASET is a folder as for benchmarks/quality.py. The pipeline's stages up to augment_choose run as shipped, but with
agn, unless --work holds them already from an earlier call. cgan's twin is trained beside them, see benchmarks/twin.py.

As recommenders: every generator ranks the catalogue from the observed items of each test user. EASE, its lambda
chosen on validation, stands beside them.

As fills: ALS is fitted on train ratings and each fill, with the setting that is best without fill, and is
compared with ALS without fill, on validation (what the gate sees) and on test ratings. The verdict is that of the
gate's rules for every fill, not for its few finalists alone; intervals are as wide as with its finalists.

`--fills-only` measures the fills alone, in the pipeline as shipped: --work may be that of benchmarks/quality.py.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import twin
from generators_report import write
from peers import PEERS
from pyspark.sql import DataFrame, SparkSession
from quality_data import DataSet, prepared
from quality_peers import judged, ranked, tuned
from quality_run import Split, read_split, run_id
from sequential import Lists

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.evaluation.bootstrap import Lift, poisson_weights, relative_lift
from ganrec_spark.fills import gate
from ganrec_spark.fills.generate import FillPlan, generate
from ganrec_spark.fills.made import made_fills, planned_fills
from ganrec_spark.fills.rules import Judgement, refusal
from ganrec_spark.fills.sources import load_checkpoints, ship_sources, wanted_fills
from ganrec_spark.frames import dislikes
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.pipeline import STAGE_BY_NAME, STAGES
from ganrec_spark.run.context import Context
from ganrec_spark.run.runner import fill_wanted, finished_stages, run_stage, stage_context
from ganrec_spark.spark.session import build_session

REPOSITORY = Path(__file__).resolve().parents[1]
_SEED = 0
_RUN = run_id(_SEED)
_DEPTH = 20
_LAST = "augment_choose"
_KINDS = "[vae, agn, cgan]"


def main() -> None:
    """Parse the command line; measure each data set, then write one page of them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET")
    parser.add_argument("--cut", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--budget", type=float, default=120.0, metavar="SECONDS", help="of tuning EASE")
    parser.add_argument("--fills-only", action="store_true", help="keep what was measured of them as recommenders")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the pipeline")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "benchmarks" / "generators")
    parser.add_argument("--work", type=Path, help="keeps the lakes, so that a second call goes on where one stopped")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ganrec-generators-") as scratch:
        work = options.work or Path(scratch)
        for folder in options.datasets:
            data = prepared(folder, options.cut, work)
            measure(data, command(folder, options), work / data.name, options)
    write(options.out)


def measure(data: DataSet, told: str, work: Path, options: argparse.Namespace) -> None:
    """Measure one data set and write its rows: NAME.recommenders.parquet and NAME.fills.parquet."""
    settings = [*data.settings, f"lake.root={work}", f"run.seed={_SEED}", *options.set]
    if not options.fills_only:
        settings.insert(0, f"generator.kinds={_KINDS}")
    config = load_config(overrides=settings, environ={})
    spark = build_session(config, "ganrec benchmark")
    try:
        lake = Lake(spark, config.lake.catalog, config.lake.namespace)
        run_stages(spark, config, lake)
        if not fill_wanted(lake, _RUN):
            sys.exit(f"{data.name}: no sparse users, so no generator is trained; see sparsity.* (--set) or --cut")
        split = read_split(lake, _RUN, _SEED)
        with_twin = twin.OF in config.generator.kinds and not options.fills_only
        lonely = twin.trained(lake, config, _RUN) if with_twin else None
        lists = {} if options.fills_only else generators_lists(config, lake, lonely)
        context = stage_context(lake, config, STAGE_BY_NAME["gate"], _RUN)
        fills = judged_fills(context, lake, filled(context, lake, lonely))
    finally:
        spark.stop()
    options.out.mkdir(parents=True, exist_ok=True)
    fills.assign(dataset=data.name, command=told).to_parquet(options.out / f"{data.name}.fills.parquet", index=False)
    if options.fills_only:
        return
    peer = next(peer for peer in PEERS if peer.name == "EASE")
    if split.train.shape[1] <= peer.max_items:
        setting, _ = tuned(peer, split, options.budget, 0)
        lists["EASE"] = ranked(peer.fit(split.fitted, setting, 0), split.fitted, split.test)
    recommenders = compared_lists(lists, split, data.ks).assign(dataset=data.name, command=told)
    recommenders.to_parquet(options.out / f"{data.name}.recommenders.parquet", index=False)


def command(folder: Path, options: argparse.Namespace) -> str:
    """Return the command that measures one data set again, without the folders of its machine."""
    words = [f"benchmarks/generators.py {folder.name} --budget {options.budget:g}"]
    words += [f"--cut {options.cut:g}"] if options.cut else []
    words += ["--fills-only"] if options.fills_only else []
    return " ".join((*words, *(f"--set {shlex.quote(setting)}" for setting in options.set)))


def run_stages(spark: SparkSession, config: Config, lake: Lake) -> None:
    """Run the stages up to the fills, unless an earlier call did."""
    if _LAST not in finished_stages(lake, _RUN):
        for stage in STAGES[: 1 + STAGES.index(STAGE_BY_NAME[_LAST])]:
            outcome = run_stage(spark, config, stage, _RUN)
            print(f"{outcome.stage}: {outcome.outcome}: {outcome.message}", file=sys.stderr, flush=True)


def generators_lists(config: Config, lake: Lake, lonely: twin.Checkpoints | None) -> dict[str, Lists]:
    """Return generator -> the best items of test users, from train + validation ratings and without these.

    `lonely`: cgan's twin, if it was trained.
    """
    columns = ("user_idx", "item_idx", "rating", "ts")
    train, validation = (lake.read(f"{part}_ratings", _RUN).select(*columns) for part in ("train", "validation"))
    observed = train.unionByName(validation)
    checkpoints = load_checkpoints(lake.read("generator_checkpoints", _RUN))
    if missing := set(config.generator.kinds) - set(checkpoints):  # benchmarks/quality.py's lake, for one
        sys.exit(
            f"{config.lake.root}: its run has no {', '.join(sorted(missing))} (generator.kinds); give another --work"
        )
    sources = ship_sources(lake.spark, observed, checkpoints, {*checkpoints, "popularity"})
    users = lake.read("test_ratings", _RUN).select("user_idx").distinct()
    wanted = [FillPlan(name, "top", _DEPTH) for name in sources]
    rows = generate(lake.spark, observed, users, sources, wanted, 1.0, config.run.seed)
    if lonely:
        rows = rows.unionByName(
            twin.generated(lake, config, lonely, observed, users, [FillPlan(twin.OF, "top", _DEPTH)])
        )
    table = rows.select("generator", "user_idx", "position", "item_idx").toPandas().sort_values("position")
    return {
        str(name): {int(user): items.to_numpy(np.int32) for user, items in own.groupby("user_idx")["item_idx"]}
        for name, own in table.groupby("generator")
    }


def filled(context: Context, lake: Lake, lonely: twin.Checkpoints | None) -> DataFrame:
    """Return all fills of phase choose for all sparse users, with those of cgan's twin, if it was trained."""
    users, config = lake.read("user_sparsity", _RUN).where("is_sparse").select("user_idx"), context.config
    rows = made_fills(context, planned_fills(context), users, "choose")
    if not lonely:
        return rows.cache()
    train = lake.read("train_ratings", _RUN)
    wanted = [one for one in wanted_fills(config.augment, [twin.OF]) if one.generator == twin.OF]
    disliked = dislikes.of_phase(lake.read("known_dislikes", _RUN), train, "choose")
    return rows.unionByName(twin.generated(lake, config, lonely, train, users, wanted, disliked)).cache()


def judged_fills(context: Context, lake: Lake, generated: DataFrame) -> pd.DataFrame:
    """Return a row per fill of `generated`: the gate's verdict and the lifts on validation and on test ratings."""
    train, segments = lake.read("train_ratings", _RUN), lake.read("user_segments", _RUN)
    validation, test = (lake.read(f"{part}_ratings", _RUN) for part in ("validation", "test"))
    everyone = gate.judged_users(train, validation, segments)
    screening, users = (part.cache() for part in gate.screening_and_proving(everyone, context.seed))
    # The same fits on test: items held out for validation are not test items, so they are not listed.
    truth = gate.judged_users(train.unionByName(validation.select(*train.columns)), test, segments).cache()
    plain = gate.plain_als(context)
    fills = gate.unjudged(generated)
    wide = replace(context, config=_with_finalists(context.config, len(fills)))
    screened = {item.fill: item for item in gate.screen(wide, plain, screening, generated, fills)}
    rows = []
    n = context.config.gate.finalists
    for group in (fills[start : start + n] for start in range(0, len(fills), n)):
        print(f"fitting {', '.join(item.fill for item in group)}", file=sys.stderr, flush=True)
        models = gate.fits_with_fill(context, plain, generated, [item.fill for item in group])
        seen = gate.compared(context, users, plain, models, group)
        found = gate.compared(context, truth, plain, models, group)
        for item in group:
            name = item.fill
            verdict = screened[name].verdict or refusal(seen[name], context.config.gate) or "accepted"
            rows.append((name, verdict, *_bounds(seen[name]), *_bounds(found[name])))
    lifts = [f"{part}_{what}" for part in ("validation", "test") for what in ("sparse", "low", "high", "overall")]
    return pd.DataFrame(rows, columns=["fill", "verdict", *lifts])


def _with_finalists(config: Config, n: int) -> Config:
    """Return `config` with a gate that looks at the controls of every fill."""
    return config.model_copy(update={"gate": config.gate.model_copy(update={"finalists": n})})


def _bounds(item: Judgement) -> tuple[float, float, float, float]:
    none = Lift(np.nan, np.nan, np.nan)
    sparse, overall = item.sparse or none, item.overall or none
    return sparse.value, sparse.low, sparse.high, overall.value


def compared_lists(lists: dict[str, Lists], split: Split, ks: tuple[int, ...]) -> pd.DataFrame:
    """Return a row per generator and metric on test; adversarial ones with their lift over their twin, paired."""
    values = {name: judged(own, split.test, ks).set_index("user_idx") for name, own in lists.items()}
    users = np.array(sorted(split.test))
    weights = poisson_weights(users, 1000, seed=0)
    rows = []
    for name, own in values.items():
        other = twin.NAME if name == twin.OF and twin.NAME in values else None
        for metric in own.columns:
            lift = Lift(np.nan, np.nan, np.nan)
            if other is not None:
                before, after = (table[metric].reindex(users).to_numpy() @ weights for table in (values[other], own))
                lift = relative_lift(before, after, 0.95)
            rows.append((name, metric, own[metric].mean(), other, lift.value, lift.low, lift.high))
    return pd.DataFrame(rows, columns=["generator", "metric", "value", "twin", "lift", "lift_low", "lift_high"])


if __name__ == "__main__":
    main()
