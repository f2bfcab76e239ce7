"""Hold out each user's validation and test ratings by the configured protocol.

Every rating gets one part: train, validation or test. A dislike is never held out; its part says which phase may know
it, by the same order in time or the same draw (`dislike_parts`), and so does that of what was shown (`ignored_parts`).
Where whole users or items are hidden (cold_users, cold_items), so is all else that is known of them.
Ties in time are broken (time_order.tie) and shares drawn by a hash of (seed, user, item): the same ratings give the
same parts, however they are stored.
"""

from collections.abc import Callable

from pyspark.sql import Column, DataFrame, GroupedData, Window
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Split
from ganrec_spark.errors import InputError
from ganrec_spark.frames.ignored import PATIENCE
from ganrec_spark.frames.time_order import tie

_DAY = 86_400
_DRAWN = ("ratio", "given")  # protocols that hold out by chance, not by time
COLD_ITEMS = "cold_items"
_HIDDEN = {"cold_users": "user_idx", COLD_ITEMS: "item_idx"}  # protocols that hide whole users or items
_BUCKETS = 2**16  # finer than this a share of users or items is not drawn
PARTS = ("train", "validation", "test")


def leave_last_out(ratings: DataFrame, split: Split, seed: int) -> DataFrame:
    """Hold out each user's last rating for test, the second last for validation; users below min_ratings keep all."""
    return _last_ones(ratings, split, seed, {1: "test", 2: "validation"})


def last_for_validation(ratings: DataFrame, split: Split, seed: int) -> DataFrame:
    """Hold out each user's last rating for validation; no test. Users below split.min_ratings keep all in train."""
    return _last_ones(ratings, split, seed, {1: "validation"})


def temporal(ratings: DataFrame, split: Split, seed: int) -> DataFrame:
    """Hold out the newest test_share of all ratings for test, the validation_share before; one cut for all users.

    Ratings of one second stay together, so that a part holds at most its share.
    """
    own = _own(ratings)
    second = F.unix_timestamp("ts")
    test_from, validation_from = _cuts(own.select(second.alias("second")), split)
    part = F.when(second >= test_from, "test").when(second >= validation_from, "validation").otherwise("train")
    return _labelled(own, part)


def ratio(ratings: DataFrame, split: Split, seed: int) -> DataFrame:
    """Hold out random shares of each user's ratings for test and validation, rounded; at least one stays in train."""
    return _random_shares(_own(ratings), split, seed, split.test_share)


def given(ratings: DataFrame, split: Split, seed: int) -> DataFrame:
    """Hold out ingest.test_source less the source's pairs for test, a random share per user for validation."""
    own = _own(ratings)
    delivered = ratings.where(F.col("origin") == "test_source")
    test = delivered.join(own.select("user_idx", "item_idx"), ["user_idx", "item_idx"], "left_anti")
    return _random_shares(own, split, seed, 0.0).unionByName(_labelled(test, F.lit("test")))


def cold_users(ratings: DataFrame, split: Split, seed: int) -> DataFrame:
    """Hold out all ratings of test_share of the users for test, of validation_share for validation."""
    return _hidden(ratings, split, seed, "user_idx")


def cold_items(ratings: DataFrame, split: Split, seed: int) -> DataFrame:
    """Hold out all ratings of test_share of the rated items for test, of validation_share for validation."""
    return _hidden(ratings, split, seed, "item_idx")


PROTOCOLS: dict[str, Callable[[DataFrame, Split, int], DataFrame]] = {
    "leave_last_out": leave_last_out,
    "temporal": temporal,
    "ratio": ratio,
    "given": given,
    "cold_users": cold_users,
    "cold_items": cold_items,
    "none": last_for_validation,
}


def dislike_parts(disliked: DataFrame, parts: DataFrame, split: Split, seed: int) -> DataFrame:
    """Return the dislikes of the source with their part: what may know them, as if they had been split as ratings.

    In: disliked_ratings, and the ratings with their parts. By protocols in time a dislike that comes before the first
    validation rating (of the user; temporal: of all) is train, before the first test rating validation, else test.
    ratio and given draw the same shares of a user's dislikes as of the ratings. Those of a hidden user or item are of
    the part that hides it. A pair that is held out, as ingest.test_source may say of one, is no dislike.
    """
    own = _own(disliked)
    if split.protocol in _HIDDEN:
        labelled = _labelled(*_as_hidden(own, parts, split))
    elif split.protocol in _DRAWN:
        labelled = _random_shares(own, split, seed, split.test_share if split.protocol == "ratio" else 0.0)
    else:
        labelled = _labelled(*_in_time(own, parts, split, seed))
    held_out = parts.where("part <> 'train'").select("user_idx", "item_idx")
    return labelled.join(held_out, ["user_idx", "item_idx"], "left_anti")


def ignored_parts(impressions: DataFrame, parts: DataFrame, split: Split, seed: int) -> DataFrame:
    """Return (user_idx, item_idx, times, part): how often a user was shown an item, by what may know that.

    In: table impressions, and the ratings with their parts. An impression has its place a day later, when it is clear
    what came of it: by the first held-out rating (of the user; temporal: of all) a phase knows nothing of what led to
    it. That a pair is held out changes nothing, for that would give it away. Where ratings are held out by chance
    (ratio, given) there is no before and after, so nothing is known; what a hidden user was shown, or who was shown a
    hidden item, is of the part that hides it.
    """
    rows = impressions.withColumn("ts", F.col("ts") + F.lit(PATIENCE))
    if split.protocol in _HIDDEN:
        rows, part = _as_hidden(rows, parts, split)
        placed = rows.withColumn("part", part)
    elif split.protocol in _DRAWN:
        placed = rows.limit(0).withColumn("part", F.lit("train"))
    else:
        rows, part = _in_time(rows, parts, split, seed)
        placed = rows.withColumn("part", part)
    return placed.groupBy("user_idx", "item_idx", "part").agg(F.count("*").alias("times"))


def _hidden(ratings: DataFrame, split: Split, seed: int, key: str) -> DataFrame:
    own = _own(ratings)
    bucket = F.pmod(F.xxhash64(F.lit("hidden"), F.lit(seed), key), F.lit(_BUCKETS))
    counts = _histogram(own.select(key).distinct(), bucket)
    total = sum(counts.values())
    test_above, validation_above = (
        _last_fitting(counts, share * total)[0]
        for share in (split.test_share, split.validation_share + split.test_share)
    )
    part = F.when(bucket > test_above, "test").when(bucket > validation_above, "validation").otherwise("train")
    return _labelled(own, part)


def _as_hidden(rows: DataFrame, parts: DataFrame, split: Split) -> tuple[DataFrame, Column]:
    """Return the rows with more columns, and the part of each: that of its user's or item's ratings."""
    key = _HIDDEN[split.protocol]
    hidden = parts.where("part <> 'train'").select(key, F.col("part").alias("hides")).distinct()
    return rows.join(hidden, key, "left"), F.coalesce("hides", F.lit("train"))


def _in_time(rows: DataFrame, parts: DataFrame, split: Split, seed: int) -> tuple[DataFrame, Column]:
    """Return the rows (user_idx, item_idx, ts) with more columns, and the part of each by its place in time."""
    if split.protocol == "temporal":
        place = F.struct(F.unix_timestamp("ts"))
        return rows.crossJoin(_first_held_out(parts.groupBy(), place)), _part_by(place)
    place = F.struct("ts", tie(seed).alias("tie"), "item_idx")
    return rows.join(_first_held_out(parts.groupBy("user_idx"), place), "user_idx", "left"), _part_by(place)


def _first_held_out(grouped: GroupedData, place: Column) -> DataFrame:
    """Return, as `validation_from` and `test_from`, the place of each group's first held-out rating; NULL: none."""
    return grouped.agg(*(F.min(F.when(F.col("part") == name, place)).alias(f"{name}_from") for name in PARTS[1:]))


def _part_by(place: Column) -> Column:
    in_test, in_validation = (place >= F.col(f"{name}_from") for name in ("test", "validation"))
    return F.when(in_test, "test").when(in_validation, "validation").otherwise("train")


def _own(ratings: DataFrame) -> DataFrame:
    return ratings.where(F.col("origin") != "test_source")


def _labelled(ratings: DataFrame, part: Column) -> DataFrame:
    return ratings.select("user_idx", "item_idx", "rating", "ts", part.alias("part"))


def _last_ones(ratings: DataFrame, split: Split, seed: int, held_out: dict[int, str]) -> DataFrame:
    user = Window.partitionBy("user_idx")
    from_end = F.row_number().over(user.orderBy(F.desc("ts"), tie(seed).desc(), F.desc("item_idx")))
    counted = _own(ratings).withColumn("from_end", from_end).withColumn("n", F.count("*").over(user))
    part = F.lit("train")
    for position, name in held_out.items():
        part = F.when((F.col("n") >= split.min_ratings) & (F.col("from_end") == position), name).otherwise(part)
    return _labelled(counted, part)


def _random_shares(own: DataFrame, split: Split, seed: int, test_share: float) -> DataFrame:
    user = Window.partitionBy("user_idx")
    drawn = F.row_number().over(user.orderBy(F.xxhash64(F.lit(seed), "user_idx", "item_idx"), "item_idx"))
    counted = own.withColumn("drawn", drawn).withColumn("n", F.count("*").over(user))
    most = F.when(F.col("n") >= split.min_ratings, F.col("n") - 1).otherwise(0)
    n_test = F.least(F.round(F.col("n") * test_share), most)
    n_validation = F.least(F.round(F.col("n") * split.validation_share), most - n_test)
    part = F.when(F.col("drawn") <= n_test, "test").when(F.col("drawn") <= n_test + n_validation, "validation")
    return _labelled(counted, F.coalesce(part, F.lit("train")))


def _cuts(seconds: DataFrame, split: Split) -> tuple[int, int]:
    """Return the first second of test and of validation; exact, yet only days and two days' seconds are collected."""
    days = _histogram(seconds, F.floor(F.col("second") / _DAY))
    total = sum(days.values())
    shares = (split.test_share, split.validation_share + split.test_share)
    cut_days = [_last_fitting(days, share * total) for share in shares]
    of_cut_days = F.floor(F.col("second") / _DAY).isin([day for day, _ in cut_days])
    inside = _histogram(seconds.where(of_cut_days), F.col("second"))
    cuts, held_out = [], []
    for (day, newer_days), share in zip(cut_days, shares, strict=True):
        of_day = {second: count for second, count in inside.items() if second // _DAY == day}
        too_many, newer_seconds = _last_fitting(of_day, share * total - newer_days)
        cuts.append(too_many + 1)
        held_out.append(newer_days + newer_seconds)
    if not 0 < held_out[0] < held_out[1]:
        raise InputError(
            f"split.protocol=temporal: expected times that leave {split.test_share:.0%} of {total} ratings for test "
            f"and {split.validation_share:.0%} for validation, found {held_out[0]} and {held_out[1] - held_out[0]}: "
            "too few ratings or too many of one second; map ingest.columns.timestamp or choose another protocol"
        )
    return cuts[0], cuts[1]


def _histogram(seconds: DataFrame, bucket: Column) -> dict[int, int]:
    rows = seconds.groupBy(bucket.alias("bucket")).count().collect()
    return {int(row["bucket"]): int(row["count"]) for row in rows}


def _last_fitting(counts: dict[int, int], limit: float) -> tuple[int, int]:
    """Return the newest bucket that no longer fits into `limit` with all newer ones, and the number of newer ones."""
    newer = 0
    for bucket in sorted(counts, reverse=True):
        if newer + counts[bucket] > limit:
            return bucket, newer
        newer += counts[bucket]
    return min(counts, default=0) - 1, newer
