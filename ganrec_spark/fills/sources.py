"""Which fills are tried, and what makes them: trained generators, popularity, neighbours, members' lists."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.models import Augment
from ganrec_spark.fills.generate import FillPlan, Source
from ganrec_spark.fills.neighbours import item_neighbours
from ganrec_spark.frames.observed import users_per_item
from ganrec_spark.frames.ship import ship
from ganrec_spark.plan.members import FILL_RULES, MAY_FILL, POPULARITY
from ganrec_spark.plan.table import NONE
from ganrec_spark.plan.tables import TABLE_BY_NAME
from ganrec_spark.run.context import Context
from ganrec_spark.training.checkpoints import stored_checkpoints

_NEIGHBOURS = 100


def wanted_fills(config: Augment, generators: list[str]) -> list[FillPlan]:
    """Return every fill to try; a rule knows no probabilities worth sampling from, so it only gives its best."""
    return [
        FillPlan(name, strategy.how, strategy.n)
        for name in (*generators, *config.rules)
        for strategy in config.strategies
        if strategy.how == "top" or name not in FILL_RULES
    ]


def unfilled_lists(context: Context, member: str, phase: str) -> DataFrame:
    """Return the member's lists in a phase, trained on observed ratings alone."""
    return context.lake.read(f"{member}_candidates", phase).where(F.col("fill") == NONE)


def listed_source(context: Context, member: str, phase: str) -> Source:
    """Return the source of fills that are a member's lists (generate reads them beside each user's history).

    Its version is a hash of the versions of its checkpoints; of the lists, where it keeps none.
    """
    if (table := f"{member}_checkpoints") in TABLE_BY_NAME:
        rows = context.lake.read(table, phase).select("version").distinct().orderBy("version").collect()
    else:
        each = F.xxhash64("user_idx", "items", "scores").cast("decimal(38,0)")
        rows = unfilled_lists(context, member, phase).agg(F.sum(each).cast("string").alias("version")).collect()
    version = hashlib.sha256(",".join(str(row.version) for row in rows).encode()).hexdigest()[:12]
    return Source(member, version, {}, ship(context.spark))


def load_checkpoints(chunks: DataFrame) -> dict[str, tuple[dict[str, Any], bytes]]:
    """Return card and state of every generator, from chunks of generator_checkpoints, in order of name."""
    rows = chunks.orderBy("version", "part").toLocalIterator()
    found = {card["generator"]: (card, state) for card, state in stored_checkpoints(rows)}
    return dict(sorted(found.items()))


def ship_sources(
    spark: SparkSession,
    observed: DataFrame,
    checkpoints: dict[str, tuple[dict[str, Any], bytes]],
    wanted: set[str],
) -> dict[str, Source]:
    """Ship what is wanted of all but members' lists: a generator's state, the items' counts, or their neighbours."""
    sources = {}
    for name in sorted(wanted - set(FILL_RULES)):
        card, state = checkpoints[name]
        arrays = ship(spark, state=np.frombuffer(state, dtype=np.uint8))
        sources[name] = Source(name, card["version"], card, arrays)
    for name in sorted(wanted & set(FILL_RULES) - set(MAY_FILL)):
        rule = _popularity(observed) if name == POPULARITY else item_neighbours(observed, _NEIGHBOURS)
        digest = hashlib.sha256(b"".join(array.tobytes() for array in rule.values())).hexdigest()
        sources[name] = Source(name, digest[:12], {}, ship(spark, **rule))
    return sources


def _popularity(observed: DataFrame) -> dict[str, NDArray[Any]]:
    counts = users_per_item(observed).orderBy("item_idx").toArrow()
    items = counts["item_idx"].to_numpy()
    strength = np.zeros(int(items.max(initial=-1)) + 1, dtype=np.float32)
    strength[items] = counts["n"].to_numpy()
    return {"strength": strength}
