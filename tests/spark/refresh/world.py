"""A lake with one published run whose lists are refreshed, and events that say what people said before."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from e2e.lakeside import FAST
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.lake.events import append
from ganrec_spark.lake.schema import declared, local_frame
from ganrec_spark.lake.store import Lake
from ganrec_spark.raw.world import taste_of_item, write_world
from ganrec_spark.run.runner import run_pipeline

RUN, N_NEW = "2026-11-01", 16
ARMS = "[{name: blend, share: 0.5, lists: published}, {name: simple, share: 0.3, lists: popularity}, "
SETTINGS = (
    *FAST,
    "distributed.workers=1",
    "generator.kinds=[vae]",
    "feedback.as_ratings=true",
    "ingest.liked_from=3",
    "recommend.n=5",
    "evaluate.ks=[5, 10]",
    "als.half_life_days=[200.0]",
    "als.dislike_weight=[0.5]",
    "als.ignored_weight=[0.2]",
    "item_item.rating_slope=[0.3]",
    "item_item.likeness=[2.0]",
    "transformer.models=2",
    "explore.slots=1",
    "recommend.new_item_slots=1",
    "recommend.variety=calibration",
    "recommend.variety_by=taste",
    "recommend.max_ndcg_loss=1.0",
    f"experiment.arms={ARMS}{{name: als, share: 0.2, lists: als}}]",
)
Row = tuple[object, ...]


@dataclass(frozen=True)
class World:
    """A lake with one published run, and its state before any test."""

    spark: SparkSession
    lake: Lake
    config: Config

    def tell(self, *events: tuple[int, int, str, float | None, datetime]) -> None:
        """Append events: user, item, kind, value, time."""
        now, before = datetime.utcnow(), self.lake.read_all("feedback_events").count()
        rows = [
            (f"e{before + number}", user, item, kind, value, ts, now, None, None, None, None)
            for number, (user, item, kind, value, ts) in enumerate(events)
        ]
        columns = declared("feedback_events").columns
        assert append(self.lake, "feedback_events", local_frame(self.spark, columns, rows)) == len(rows)

    def published(self, name: str = "recommendations") -> dict[int, list[Row]]:
        """Return what readers see of each user."""
        rows = self.spark.table(self.lake.name(f"published_{name}")).drop("edition").collect()
        found: dict[int, list[Row]] = {}
        for row in sorted(rows, key=str):
            found.setdefault(row.user_idx, []).append(tuple(row))
        return found

    def read(self, table: str, phase: str | None = None) -> DataFrame:
        return self.lake.read(table, RUN, phase)

    def unlaid(self) -> None:
        """Show the run as it was, without overlays."""
        shown = self.lake.published()
        assert self.lake.point_to(RUN, str(shown.edition).partition(".")[0], shown)


def published_world(spark: SparkSession, lake_root: Path, namespace: str, *settings: str) -> World:
    """Make the lake: 90 users, of whom 20 were shown items before, and one published run with SETTINGS and these.

    Of each item the taste is known, and of N_NEW more that nobody has rated.
    """
    source, items = lake_root / f"{namespace}.parquet", lake_root / f"{namespace}-items.csv"
    write_world(source, users=90, items=40)
    known = [f"i{number:04d}" for number in (*range(40), *range(9000, 9000 + N_NEW))]
    items.write_text("item_id,taste\n" + "".join(f"{item},taste {taste_of_item(item)}\n" for item in known))
    own = (f"lake.root={lake_root}", f"lake.namespace={namespace}", f"ingest.source={source}")
    own += (f"ingest.items_source={items}",)
    config = load_config(overrides=[*SETTINGS, *own, *settings], environ={})
    world = World(spark, Lake(spark, config.lake.catalog, config.lake.namespace), config)
    before = datetime(2000, 1, 1)
    world.tell(*((user, item, "impression", None, before) for user in range(20) for item in range(0, 40, 3)))
    run_pipeline(spark, config, RUN)
    return world


def forget(world: World) -> None:
    """Take the events that the run did not know from the log."""
    world.spark.sql(f"DELETE FROM {world.lake.ensure('feedback_events')} WHERE ts >= '2001-01-01'")


def said_again(world: World, users: set[int] | None = None) -> list[tuple[int, int, str, float | None, datetime]]:
    """Return an event for each user that says what they said before: one rating, and one dislike."""
    parts = (world.read("merged_ratings", "final").where("observed"), world.read("known_dislikes"))
    rows = [
        row
        for part in parts
        for row in part.groupBy("user_idx").agg(F.min(F.struct("item_idx", "rating", "ts")).alias("one")).collect()
    ]
    return [
        (row.user_idx, row.one.item_idx, "rating", row.one.rating, row.one.ts)
        for row in rows
        if users is None or row.user_idx in users
    ]
