"""How long is it from an event to the list that knows it? By changed users, in a small lake and in a larger one.

    .venv/bin/python benchmarks/refresh.py [--users 100000 1000000] [--items 20000] [--changed 10 100 1000 10000]
        [--rounds 3] [--work DIR] [--out DIR] [--set KEY=VALUE]

Each lake has one published run of a generated world, made by the stages with cheap models (CHEAP: small vectors, one
epoch, no fills), and stays in --work. One session of two cores then measures, after a first refresh that reads the
models: three events of each of so many users, drawn at random, are appended to the log (what `ganrec feedback` does
with the rows of a file) and `ganrec refresh` publishes their lists. Seconds are medians over the rounds. Writes
refresh.md, and refresh.parquet with every round.
"""

import ganrec_spark  # noqa: F401  # isort: skip  (before NumPy: it chooses the kernels)

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.feedback.log import append_events, frame_rows
from ganrec_spark.lake.overlay import compact
from ganrec_spark.lake.publication import base_of, delete_editions
from ganrec_spark.lake.store import Lake
from ganrec_spark.raw.world import write_world
from ganrec_spark.refresh.refresh import refresh
from ganrec_spark.spark.session import build_session

RUN = "2026-11-01"
EVENTS = ("click", "click", "purchase")  # of each user who changed
# What a refresh takes does not hang on how good models are; that they are many and long lists are theirs, it does.
CHEAP = (
    "spark.master=local[2]",
    "distributed.workers=1",
    "feedback.as_ratings=true",
    "split.protocol=none",
    "sparsity.max_ratings=0",
    "als.embedding_size=[16]",
    "als.iterations=2",
    "als.search_iterations=2",
    "als.regularisation=[0.2]",
    "als.alpha=[20.0]",
    "als.rating_scale=[raw]",
    "als.half_life_days=[null]",
    "als.dislike_weight=[0.0]",
    "item_item.method=rp3beta",
    "item_item.rp3_beta=[0.2]",
    "item_item.neighbours=20",
    "item_item.history_half_life_visits=[null]",
    "item_item.rating_slope=[0.0]",
    "item_item.mix_shares=[]",
    "trending.half_life_days=[30]",
    "transformer.models=1",
    "transformer.batch_size=2048",
    "transformer.batch_ratings=65536",
    "transformer.continue_up_to=1.0",
    "transformer.max_epochs=1",
    "transformer.validate_every=1",
    "transformer.embedding_size=16",
    "transformer.max_length=20",
    "transformer.negatives=64",
    "transformer.adversary_radius=[0.0]",
    "recommend.n_candidates=30",
    "recommend.reranker=none",
    "recommend.fusion=[ranks]",
    "recommend.weight_step=0.5",
    "refresh.compact_after=1000",  # what compaction takes is measured by itself
)


def main() -> None:
    """Parse the command line, make the lakes that are not there, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--changed", type=int, nargs="+", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="where the lakes are kept; default: nowhere")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "benchmarks")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ganrec-refresh-") as scratch:
        work = options.work or Path(scratch)
        if options.measure:
            rows = pd.DataFrame(measured(settings(work, options, options.measure), options))
            rows.to_parquet(rounds_file(work, options.measure, options.items))
            return
        parts = []
        for users in options.users:
            make(work, options, users)
            # A process of its own: one lake's session is as cold as the other's.
            command = [sys.executable, __file__, *sys.argv[1:], "--work", str(work), "--measure", str(users)]
            subprocess.run(command, check=True)
            parts.append(pd.read_parquet(rounds_file(work, users, options.items)))
    rows = pd.concat(parts, ignore_index=True)
    options.out.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(options.out / "refresh.parquet")
    page = page_of(rows, options.items)
    (options.out / "refresh.md").write_text(page)
    print(page)


def settings(work: Path, options: argparse.Namespace, users: int) -> list[str]:
    """Return the overrides of a lake's run."""
    root = work / f"{users}x{options.items}"
    own = (f"lake.root={root}", f"ingest.source={root.with_suffix('.parquet')}")
    return [*CHEAP, *own, *options.settings]


def rounds_file(work: Path, users: int, items: int) -> Path:
    """Return where the measurements of a lake are kept."""
    return work / f"{users}x{items}.rounds.parquet"


def make(work: Path, options: argparse.Namespace, users: int) -> None:
    """Make a lake with a published run where there is none."""
    overrides = settings(work, options, users)
    config = load_config(overrides=overrides, environ={})
    source = Path(str(config.ingest.source))
    if not source.exists():
        work.mkdir(parents=True, exist_ok=True)
        write_world(source, users=users, items=options.items)
    words = [word for setting in overrides for word in ("--set", setting)]
    # What has been done is kept.
    command = [sys.executable, "-m", "ganrec_spark.cli", "run", "--run-date", RUN, *words]
    subprocess.run(command, check=True, stdout=sys.stderr)


def measured(overrides: Sequence[str], options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Yield a row for each round of each number of changed users, that of the first refresh, and a compaction's."""
    config = load_config(overrides=overrides, environ={})
    spark = build_session(config, "ganrec refresh benchmark")
    lake = Lake(spark, config.lake.catalog, config.lake.namespace)
    shown = lake.published()
    if shown.overlays or shown.events:  # measured before: as the run left it
        lake.point_to(RUN, base_of(str(shown.edition)), shown)
        later = {
            (row.run_id, row.edition)
            for row in lake.read_all("exposures").select("run_id", "edition").distinct().collect()
        }
        delete_editions(lake, sorted(key for key in later if key[1] != base_of(key[1])), exposures=True)
        spark.sql(f"DELETE FROM {lake.ensure('feedback_events')}")
    ids = lake.read("users", RUN).select("user_id").toPandas()["user_id"].to_numpy()
    ratings, users = lake.read("ratings", RUN).count(), options.measure
    facts = {"users": users, "items": options.items, "ratings": ratings}
    rng = np.random.default_rng(0)
    yield {**facts, "what": "first", "changed": 10, **timed(lake, config, rng.choice(ids, 10, replace=False), rng)}
    for round_ in range(options.rounds):
        for changed in options.changed:
            chosen = rng.choice(ids, changed, replace=False)
            row = {**facts, "what": "refresh", "changed": changed, **timed(lake, config, chosen, rng)}
            print(f"{users} users, round {round_ + 1}: {row}", file=sys.stderr, flush=True)
            yield row
    begun = time.monotonic()
    compact(lake)
    yield {**facts, "what": "compaction", "changed": 0, "append": 0.0, "refresh": time.monotonic() - begun}
    spark.stop()


def timed(lake: Lake, config: Config, users: "np.ndarray", rng: np.random.Generator) -> dict[str, float]:
    """Append events of these users, refresh; return the seconds of both."""
    items = lake.read("items", RUN).select("item_id").toPandas()["item_id"].to_numpy()
    now = datetime.now(UTC)
    n = len(users) * len(EVENTS)
    table = pa.table(
        {
            "event_id": [f"{now.timestamp()}-{number}" for number in range(n)],
            "user_id": np.repeat(users, len(EVENTS)),
            "item_id": rng.choice(items, n),
            "kind": list(EVENTS) * len(users),
            "timestamp": pa.array([now] * n, pa.timestamp("us", "UTC")),
        }
    )
    begun = time.monotonic()
    taken = append_events(lake, config, frame_rows(lake.spark.createDataFrame(table), config, "benchmark"))
    appended = time.monotonic()
    outcome = refresh(lake, config)
    ended = time.monotonic()
    if (taken.new, outcome.n_users, outcome.compacted) != (n, len(users), False):
        sys.exit(f"expected {n} events and lists of {len(users)} users, found {taken.in_words()}; {outcome.in_words()}")
    return {"append": appended - begun, "refresh": ended - appended}


def page_of(rows: pd.DataFrame, items: int) -> str:
    """Return the page: a row for each number of changed users, each lake's seconds, and the largest over the least."""
    rows = rows.assign(total=rows["append"] + rows["refresh"])
    lakes = sorted(rows["users"].unique())
    ratings = rows.groupby("users")["ratings"].first()
    head = " | ".join(f"{users:,} users" for users in lakes)
    lines = [
        "# From an event to the list that knows it",
        "",
        f"Seconds from the events of so many users to their published lists (in brackets: of it the append to the "
        f"log), {items:,} items, two cores, a warm session; medians over rounds.",
        "",
        f"| users with new events | {head} | times |",
        "|---|" + "---|" * (len(lakes) + 1),
    ]
    medians = rows[rows["what"] == "refresh"].groupby(["changed", "users"])[["append", "total"]].median()
    for changed in sorted(rows.loc[rows["what"] == "refresh", "changed"].unique()):
        found = [medians.loc[(changed, users)] for users in lakes]
        cells = " | ".join(f"{one['total']:.1f} ({one['append']:.1f})" for one in found)
        lines.append(f"| {changed:,} | {cells} | {found[-1]['total'] / found[0]['total']:.2f} |")
    for what, words in (("first", "the first of a process, 10 users"), ("compaction", "overlays made one edition")):
        found = rows[rows["what"] == what].set_index("users")["total"]
        cells = " | ".join(f"{found[users]:.1f}" for users in lakes)
        lines.append(f"| {words} | {cells} | {found[lakes[-1]] / found[lakes[0]]:.2f} |")
    sizes = ", ".join(f"{ratings[users]:,} ratings of {users:,} users" for users in lakes)
    lines += [
        "",
        f"The lakes: {sizes}. Each is a generated world (`raw/world.py`) and one run of all stages with cheap models, "
        "without fills and without a test (`CHEAP` in the script). Each of the users has three new events.",
        "",
        "```bash",
        f".venv/bin/python {shlex.join(['benchmarks/refresh.py', *without_work(sys.argv[1:])])}",
        "```",
        "",
    ]
    return "\n".join(lines)


def without_work(words: Sequence[str], folders: Sequence[str] = ("--work", "--out")) -> list[str]:
    """Return the command line without folders, which are of this machine."""
    kept, skip = [], False
    for word in words:
        if not skip and word not in folders:
            kept.append(word)
        skip = word in folders
    return kept


if __name__ == "__main__":
    main()
