"""Keep a fill only if it provably helps sparse users' lists by ALS on validation data and harms no one's.

Screen: every fill's rows are folded into the vectors of sparse users, item vectors fixed, which is cheap.
Confirm: ALS is fitted again on train + fill for the best few. Both compare the same users with and without the fill; a
third of the validation users screens, the others confirm, for those who chose a fill are too kind to it.

Only sparse users' lists come from the filled fit, others keep those of the plain one: a fill harms them by nothing.
The gate judges ALS's lists; whether the fill reaches what is published, stage recommend has to prove anew.
"""

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Gate
from ganrec_spark.evaluation.bootstrap import Lift, bonferroni
from ganrec_spark.evaluation.draws import SCREENING_PARTS, chance, part
from ganrec_spark.evaluation.segments import BUCKET, with_segments
from ganrec_spark.fills.lift import Totals, added_up, fitted_systems, fold_in_systems, segment_lifts, system_sums
from ganrec_spark.fills.ratings import fill_ratings
from ganrec_spark.fills.rules import (
    SELF_TRAINING,
    SHUFFLED,
    SINGLE_BUCKET,
    TOO_FEW,
    Judgement,
    Segment,
    promising,
    screened,
)
from ganrec_spark.frames import dislikes, ignored
from ganrec_spark.frames.histories import histories
from ganrec_spark.frames.observed import relevant_items
from ganrec_spark.frames.ship import ship
from ganrec_spark.plan.table import NONE
from ganrec_spark.recommenders.als.factors import AlsFactors, by_factors, factors_of
from ganrec_spark.recommenders.als.fold_in import fixed_side
from ganrec_spark.recommenders.als.setting import (
    AlsSetting,
    chosen_setting,
    fit_setting,
    latest_time,
    weighted,
)
from ganrec_spark.recommenders.catalogue import rank_by
from ganrec_spark.run.context import Context
from ganrec_spark.seeding import stable_seed


def nothing_to_prove(users: DataFrame, n_screening: int, n_sparse: int, settings: Gate) -> tuple[str, str] | None:
    """Return verdict and reason for all fills where validation users cannot prove anything."""
    if not n_screening:
        return TOO_FEW, "no sparse validation users to screen by"
    if n_sparse < settings.min_validation_users:
        needed = settings.min_validation_users
        reason = f"{n_sparse} sparse validation users to confirm by, {needed} are needed to prove anything"
        return TOO_FEW, reason
    named = users.select(F.explode("segments").alias("segment")).where(F.col("segment").startswith(BUCKET))
    buckets = [row.segment for row in named.distinct().collect()]
    if len(buckets) == 1:
        reason = f"all validation users are in {buckets[0]}: nothing shows whether a fill harms others"
        return SINGLE_BUCKET, reason
    return None


def judged_users(
    train: DataFrame, held_out: DataFrame, segments: DataFrame, disliked: DataFrame | None = None
) -> DataFrame:
    """Return one row per user with held-out ratings: user_idx, items (never listed), relevant, segments, is_sparse.

    `items`: those of `train` and `disliked`. `segments` is table user_segments.
    """
    history = dislikes.never_listed(histories(train).drop("ratings"), disliked)
    return (
        with_segments(relevant_items(held_out).join(history, "user_idx", "left"), segments)
        .withColumn("items", F.coalesce("items", F.array().cast("array<int>")))
        .withColumn("is_sparse", F.array_contains("segments", "sparse"))
    )


def screening_and_proving(users: DataFrame, seed: int) -> tuple[DataFrame, DataFrame]:
    """Return the users who screen, a third, and those who confirm: no user does both."""
    screens = part("gate", seed, SCREENING_PARTS) == 0
    return users.where(screens), users.where(~screens)


def first_to_screen(users: DataFrame, n: int, seed: int) -> DataFrame:
    """Return those who screen fills, at most n: of sparse `users` (user_idx, ...) who have held-out ratings."""
    screening, _ = screening_and_proving(users, seed)
    return screening.orderBy(chance("screen", seed), "user_idx").limit(n)


def unjudged(generated: DataFrame) -> list[Judgement]:
    """Return the fills of generated_ratings, in order of name."""
    rows = generated.groupBy("fill").agg(F.first("generator").alias("generator")).orderBy("fill").collect()
    return [Judgement(row.fill, is_popularity=row.generator == "popularity") for row in rows]


@dataclass(frozen=True)
class Plain:
    """ALS fitted without fill, and what every filled fit shares: its setting and the time that ages count from.

    `learned`: the ratings that it was fitted on, not yet weighted: train_ratings and, by its setting, dislikes and
    what was ignored.
    """

    model: AlsFactors
    setting: AlsSetting
    latest: float
    learned: DataFrame

    def weighted(self, ratings: DataFrame) -> DataFrame:
        """Return the ratings as the fit weighs them."""
        return weighted(ratings, self.setting, self.latest)


def plain_als(context: Context) -> Plain:
    """Return the fit of stage als_setting."""
    read = context.lake.read
    setting, train = chosen_setting(read("als_choices", "choose")), read("train_ratings")
    disliked = dislikes.of_phase(read("known_dislikes"), train, "choose")
    shown, implicit = ignored.of_phase(read("known_ignored"), train, "choose"), context.config.als.implicit
    learned = dislikes.learned(train, train, disliked, setting.dislike_weight, implicit)
    learned = ignored.learned(learned, train, shown, setting.ignored_weight, implicit)
    return Plain(factors_of(read("als_unfilled_factors")), setting, latest_time(train), learned)


def _fitted(context: Context, users: DataFrame, models: dict[str, AlsFactors]) -> dict[tuple[str, str], Totals]:
    """Return totals of fitted models, the first one without fill, by (name, segment), over `users`."""
    settings, rows = context.config.gate, users
    arrays: dict[str, NDArray[Any]] = {}
    columns = {f"system_{position}": name for position, name in enumerate(models)}
    for position, (column, model) in enumerate(zip(columns, models.values(), strict=True)):
        rows = rows.join(model.users.select("user_idx", F.col("factors").alias(column)), "user_idx", "left")
        arrays[f"vectors_{position}"], arrays[f"known_{position}"] = model.item_slots()
    systems = fitted_systems(list(columns), ship(context.spark, **arrays), settings.k)
    totals = added_up(system_sums(rows, systems, settings.k, settings.bootstrap_samples, context.seed))
    return {(columns[column], segment): total for (column, segment), total in totals.items()}


def screen(
    context: Context, plain: Plain, users: DataFrame, generated: DataFrame, fills: list[Judgement]
) -> list[Judgement]:
    """Return the fills with their lift by fold-in; all but the finalists already have a verdict.

    Of `users` at most gate.screen_users sparse ones judge. Finalists also have to beat, by the same fold-in,
    the popularity fills, their own rows given to other users, and as many rows of ALS's own best items.
    """
    settings, train = context.config.gate, context.lake.read("train_ratings")
    first = first_to_screen(users.where("is_sparse"), settings.screen_users, context.seed)
    known = plain.weighted(plain.learned).join(F.broadcast(first.select("user_idx")), "user_idx", "left_semi")
    sample = first.join(histories(known).withColumnRenamed("items", "history"), "user_idx", "left").cache()
    of_sample = generated.join(sample.select("user_idx"), "user_idx", "left_semi")
    added = fill_ratings(of_sample, train, context.config.merge.fill_weight, ("fill",))
    totals = _folded(context, plain, sample, added, [item.fill for item in fills])
    judged = [_judge(item, totals, settings.confidence) for item in fills]
    finalists = promising(judged, settings)
    controls: dict[str, float] = {}
    if finalists:
        own = of_sample.where(F.col("fill").isin(finalists))
        echoed = self_training(context, plain.model, sample, own)
        shuffled = shuffled_users(own, context.seed).select(echoed.columns)
        added = fill_ratings(shuffled.unionByName(echoed), train, context.config.merge.fill_weight, ("fill",))
        names = [kind + name for kind in (SHUFFLED, SELF_TRAINING) for name in finalists]
        totals = _folded(context, plain, sample, added, names)
        controls = {name: segment_lifts(totals, NONE, name, settings.confidence)["sparse"].lift.value for name in names}
    sample.unpersist()
    popular = max((item.sparse.value for item in judged if item.is_popularity and item.sparse), default=None)
    return [screened(item, finalists, controls, popular) for item in judged]


def _folded(
    context: Context, plain: Plain, sample: DataFrame, added: DataFrame, names: list[str]
) -> dict[tuple[str, str], Totals]:
    """Return totals of the systems none and `names`: the sample's users folded in with what it has `added`."""
    settings = context.config.gate
    vectors, known = plain.model.item_slots()
    codes = F.array_position(F.array(*(F.lit(name) for name in names)), F.col("fill")).cast("int") - 1
    implicit = context.config.als.implicit
    coded = plain.weighted(added).withColumn("code", codes).where(F.col("item_idx") < len(vectors))
    entry = F.struct("code", "item_idx", F.col("rating").cast("float").alias("rating"))
    per_user = coded.groupBy("user_idx").agg(F.sort_array(F.collect_list(entry)).alias("fill"))
    joined = sample.join(per_user, "user_idx", "left").select(
        "user_idx",
        "items",
        "history",
        "ratings",
        "relevant",
        "segments",
        F.col("fill.code").alias("fill_code"),
        F.col("fill.item_idx").alias("fill_items"),
        F.col("fill.rating").alias("fill_ratings"),
    )
    side = fixed_side(vectors, implicit)
    fixed: dict[str, NDArray[Any]] = {
        "rotated": side.vectors,
        "eigenvalues": side.eigenvalues,
        "rotation": side.rotation,
    }
    facts = ship(context.spark, vectors=vectors, known=known, **fixed)
    systems = fold_in_systems(names, facts, plain.setting.regularisation, plain.setting.alpha, implicit, settings.k)
    return added_up(system_sums(joined, systems, settings.k, settings.bootstrap_samples, context.seed))


def shuffled_users(generated: DataFrame, seed: int) -> DataFrame:
    """Return `generated` with each fill's rows handed on to the next of its users in an order by hash."""
    owners = generated.select("fill", "user_idx").distinct()
    order = Window.partitionBy("fill").orderBy(chance("shuffled", seed), "user_idx")
    everyone = Window.partitionBy("fill")
    placed = owners.withColumn("place", F.row_number().over(order)).withColumn("n", F.count("*").over(everyone))
    next_place = (F.col("place") % F.col("n") + 1).alias("place")
    giver = placed.select("fill", F.col("user_idx").alias("giver"), next_place)
    pairs = giver.join(placed.select("fill", "place", "user_idx"), ["fill", "place"])
    handed = generated.withColumnRenamed("user_idx", "giver").join(pairs, ["fill", "giver"])
    return handed.withColumn("fill", F.concat(F.lit(SHUFFLED), "fill")).select(generated.columns)


def self_training(context: Context, model: AlsFactors, sample: DataFrame, generated: DataFrame) -> DataFrame:
    """Return for each user in `sample` ALS's own best unseen items as rows of fills.

    Columns: fill, user_idx, item_idx, confidence. For each fill in `generated` as many as it gives a user at
    most, at each place with its mean confidence there.
    """
    places = generated.groupBy("fill", (F.col("position") - 1).alias("place"))
    strengths = places.agg(F.avg("confidence").alias("confidence"))
    n = generated.agg(F.max("position").alias("n")).collect()[0]["n"] or 0
    ranked = rank_by(sample.join(model.users, "user_idx"), by_factors(context.spark, model), n)
    placed = ranked.select("user_idx", F.posexplode("items").alias("place", "item_idx"))
    named = F.concat(F.lit(SELF_TRAINING), F.col("fill")).alias("fill")
    filled = placed.join(F.broadcast(strengths), "place")
    return filled.select(named, "user_idx", "item_idx", "confidence")


def confirm(
    context: Context, plain: Plain, users: DataFrame, models: dict[str, AlsFactors], judged: list[Judgement]
) -> list[Judgement]:
    """Return the fills with the finalists judged by ALS fitted again (`models`), on `users`."""
    finalists = [item for item in judged if not item.verdict]
    found = compared(context, users, plain, models, finalists)
    return [found.get(item.fill, item) for item in judged]


def fits_with_fill(context: Context, plain: Plain, generated: DataFrame, names: list[str]) -> dict[str, AlsFactors]:
    """Return ALS fitted on train + fill for each of the fills `names`, with the setting of `plain`."""
    train, als, models = context.lake.read("train_ratings"), context.config.als, {}
    seed, checkpoints = stable_seed(context.seed, "als"), f"{context.work_dir}/mllib"
    for name in names:
        rows = fill_ratings(generated.where(F.col("fill") == name), train, context.config.merge.fill_weight)
        filled = plain.learned.select(rows.columns).unionByName(rows)
        models[name] = fit_setting(filled, plain.setting, als, plain.latest, seed, checkpoints)
    return models


def compared(
    context: Context, users: DataFrame, plain: Plain, models: dict[str, AlsFactors], finalists: list[Judgement]
) -> dict[str, Judgement]:
    """Return the finalists by name, each model of `models` compared with `plain` on `users`, as of `judged_users`.

    Several finalists are several tests: their intervals are widened so that all hold together (Bonferroni).
    """
    totals = _fitted(context, users, {NONE: plain.model, **models})
    confidence = bonferroni(context.config.gate.confidence, len(finalists))
    return {item.fill: replace(_judge(item, totals, confidence), level="confirm") for item in finalists}


def _judge(item: Judgement, totals: dict[tuple[str, str], Totals], confidence: float) -> Judgement:
    before, after = totals[NONE, "sparse"], totals[item.fill, "sparse"]
    return replace(
        item,
        before=round(float(before.sums[0]) / before.n, 12),
        after=round(float(after.sums[0]) / after.n, 12),
        segments=segment_lifts(totals, NONE, item.fill, confidence),
        coverage_ratio=after.n_listed / before.n_listed if before.n_listed else None,
    )


def without_fill(judged: list[Judgement], why: str | None = None) -> Judgement:
    """Return the judgement of filling nothing, which wins when nothing is proven; `why` nothing can be."""
    known = next((item for item in judged if item.level == "confirm"), None) or next(iter(judged), None)
    zero = Segment(0, Lift(0.0, 0.0, 0.0))
    before, level = (known.before, known.level) if known else (0.0, "screen")
    plain = Judgement(NONE, False, level, before, before, {"all": zero, "sparse": zero}, 1.0)
    winner = next((item.fill for item in judged if item.verdict == "accepted"), None)
    if winner is not None:
        return replace(plain, verdict="beaten", reason=f"{winner} is provably better")
    nothing = "no fill was generated" if known is None else f"none of {len(judged)} fills is proven"
    return replace(plain, verdict="accepted", reason=why or nothing)
