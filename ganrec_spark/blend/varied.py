"""Choose how far the blend's lists are reordered for variety: as far as its NDCG@10 on validation allows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.attributes.kinds import CATEGORY, VALUES
from ganrec_spark.blend.fusion import HISTORY, Fusion, arrays
from ganrec_spark.blend.member_lists import Blend, fusion_of, item_slots
from ganrec_spark.blend.variety import MEASURES, Variety
from ganrec_spark.errors import ConfigError
from ganrec_spark.evaluation.bootstrap import poisson_weights, relative_lift
from ganrec_spark.evaluation.metrics import JUDGED_K, hit_matrix, ndcg
from ganrec_spark.frames.histories import lists
from ganrec_spark.frames.ship import Shipped, ship
from ganrec_spark.frames.sorted_here import sorted_here
from ganrec_spark.plan.table import NONE
from ganrec_spark.run.context import Context
from ganrec_spark.seeding import stable_seed

_STRENGTHS = (0.01, 0.03, 0.1, 0.3, 0.6, 0.9, 0.99)
_RESAMPLES, _CONFIDENCE = 500, 0.95

_JUDGED = "user_idx int, is_sparse boolean, ndcg array<double>, measured array<double>"
_JUDGED_ARROW = pa.schema(
    [
        ("user_idx", pa.int32()),
        ("is_sparse", pa.bool_()),
        ("ndcg", pa.list_(pa.float64())),
        ("measured", pa.list_(pa.float64())),
    ]
)


def choose_variety(
    context: Context, judged: DataFrame, blend: Blend, popularity: Shipped
) -> tuple[Blend, list[tuple[object, ...]]]:
    """Return the blend with the strongest variety whose loss of NDCG@10 is provably small enough, and what was tried.

    Small enough is recommend.max_ndcg_loss, relative, at the lower end of a 95 % interval over the validation users who
    also judge the weights. The blend stays as it is where none is, or nobody is held out.
    """
    settings = context.config.recommend
    if settings.variety == "none" or not blend.n_users:
        return blend, []
    values = shipped_values(context)
    tried = (0.0, *_STRENGTHS)
    varieties = [variety_of(context, strength, values) for strength in tried]
    fusion = fusion_of(context, blend, NONE, "choose", popularity)
    reached, measured, sparse = _judged(judged.where("weights"), fusion, varieties)
    resampled = poisson_weights(np.arange(len(reached)), _RESAMPLES, stable_seed(context.seed, "variety"))
    sums = resampled.T @ reached
    lifts = [relative_lift(sums[:, 0], own, _CONFIDENCE) for own in sums.T]
    within = [lift.low >= -settings.max_ndcg_loss for lift in lifts[1:]]
    chosen = within.index(False) if False in within else len(within)  # a weaker one that costs too much ends it
    rows: list[tuple[object, ...]] = [
        (
            settings.variety,
            settings.variety_by,
            strength,
            len(reached),
            _mean(reached[:, place]),
            lifts[place].value,
            lifts[place].low,
            _change(reached[sparse, 0], reached[sparse, place]),
            _mean(measured[:, place]),
            place == chosen,
        )
        for place, strength in enumerate(tried)
    ]
    context.log(
        f"{settings.variety} by {settings.variety_by}: strength {tried[chosen]:g}, {MEASURES[settings.variety]} "
        f"{_mean(measured[:, 0]):.4f} -> {_mean(measured[:, chosen]):.4f}, NDCG@{JUDGED_K} {lifts[chosen].value:+.2%} "
        f"(at least {lifts[chosen].low:+.2%})"
    )
    if not chosen:
        return blend, rows
    return replace(blend, ndcg=_mean(reached[:, chosen]), variety=varieties[chosen]), rows


def variety_of(context: Context, strength: float, values: Shipped) -> Variety:
    """Return the configured variety at one strength."""
    settings = context.config.recommend
    return Variety(settings.variety, strength, max(settings.n, JUDGED_K), settings.n_candidates, values)


def shipped_values(context: Context) -> Shipped:
    """Ship which values of recommend.variety_by each item has. Driver memory: the values of all items.

    Raise ConfigError where items have no such column of categories or several values that may be used.
    """
    by, slots = context.config.recommend.variety_by, item_slots(context)
    usable = (F.col("role") == "item") & ~F.col("sensitive") & F.col("kind").isin(CATEGORY, VALUES)
    columns = {row.name for row in context.lake.read("attribute_columns").where(usable).collect()}
    if by not in columns:
        found = ", ".join(sorted(columns)) or "none; ingest.items_source gives them"
        raise ConfigError(
            f"recommend.variety_by: expected a column of items with categories or several values, not a sensitive one, "
            f"found {by!r}; there are: {found}"
        )
    given = context.lake.read("item_attributes").where((F.col("name") == by) & F.col("value").isNotNull())
    table = given.where(F.col("item_idx") < slots).select("item_idx", "value").distinct().toPandas()
    codes = table["value"].astype("category").cat.codes.to_numpy(dtype=np.int32)  # in order of the values
    items = table["item_idx"].to_numpy(dtype=np.int64)
    order = np.lexsort((codes, items))
    starts = np.concatenate([[0], np.cumsum(np.bincount(items, minlength=slots))])
    return ship(context.spark, indptr=starts, codes=codes[order])


def _judged(
    rows: DataFrame, fusion: Fusion, varieties: Sequence[Variety]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return NDCG@10 [U, S] of each user in order of user_idx with each variety, what it measures, and who is sparse.

    Driver memory: 16 bytes x users x varieties.
    """

    def judge(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            fused, histories, relevant = fusion.fused(batch), lists(batch, HISTORY), lists(batch, "relevant")
            n_relevant = np.array([len(row) for row in relevant])
            values, measured = [], []
            for variety in varieties:
                tops = [items[:JUDGED_K].astype(np.int32) for items, _ in variety.reordered(fused, histories)]
                values.append(ndcg(hit_matrix(tops, relevant, JUDGED_K), n_relevant, JUDGED_K))
                measured.append([variety.measured(top, own) for top, own in zip(tops, histories, strict=True)])
            per_user = [np.column_stack(part).tolist() for part in (values, measured)]
            columns = arrays([batch.column("user_idx"), batch.column("is_sparse"), *per_user], _JUDGED_ARROW)
            yield pa.RecordBatch.from_arrays(columns, schema=_JUDGED_ARROW)

    table = sorted_here(rows.mapInArrow(judge, _JUDGED), "user_idx")
    reached, measured = (
        table[name].combine_chunks().flatten().to_numpy().reshape(table.num_rows, len(varieties))
        for name in ("ndcg", "measured")
    )
    return reached, measured, table["is_sparse"].to_numpy()


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean of those that are numbers, rounded: a sum's last bit hangs on its order."""
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 12) if len(known) else 0.0


def _change(before: NDArray[np.float64], after: NDArray[np.float64]) -> float | None:
    return round(float(after.mean() / before.mean() - 1), 12) if before.sum() > 0 else None
