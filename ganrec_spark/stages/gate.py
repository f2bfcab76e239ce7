"""Keep a fill only if it provably helps sparse users on validation data and harms no one.

Screen: every candidate's rows are folded into the vectors of sparse users, item vectors fixed, which is cheap.
Confirm: ALS is fitted again on train + fill for the best few. Both compare the same users with and without the fill.
Judged are the lists of ALS; what the fill does to the blend is settled by recommend, which publishes the filled
blend only if it is no worse on validation.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ganrec_spark.config import Gate
from ganrec_spark.context import Context
from ganrec_spark.distributed.als import AlsFactors, by_factors, factor_rows, factors_of
from ganrec_spark.distributed.als_setting import (
    Setting,
    chosen_setting,
    fit_setting,
    latest_time,
    weighted,
    with_soft_targets,
)
from ganrec_spark.distributed.lift import Totals, added_up, fitted_systems, fold_in_systems, system_sums
from ganrec_spark.distributed.ranking import histories, rank_catalogue
from ganrec_spark.distributed.ship import ship
from ganrec_spark.fills import NONE, fill_ratings
from ganrec_spark.models.als_fold_in import fixed_side
from ganrec_spark.ranking.bootstrap import Lift, bonferroni, relative_lift
from ganrec_spark.seeding import stable_seed

# Controls: a finalist's own rows given to other users, and as many of ALS's own best items.
_SHUFFLED, _SELF_TRAINING = "shuffled:", "self_training:"
# Verdicts on every candidate at once.
_TOO_FEW, _SINGLE_BUCKET = "too_few_users", "single_bucket"


@dataclass(frozen=True)
class Judgement:
    """What is known of a candidate: its NDCG@k and lifts at `level`, and, once it is settled, the verdict."""

    candidate: str
    is_popularity: bool = False
    level: str = "screen"
    before: float = 0.0
    after: float = 0.0
    sparse: Lift | None = None
    overall: Lift | None = None
    coverage_ratio: float | None = None
    verdict: str = ""
    reason: str = ""


def run(context: Context) -> str:
    """Write gate_decisions: one row per candidate, `none` among them, exactly one accepted; and als_filled_factors."""
    settings = context.config.gate
    read = context.lake.read
    train = read("train_ratings")
    users = judged_users(train, read("validation_ratings"), read("user_sparsity"))
    generated = context.lake.read("generated_ratings", "choose")
    candidates, models = unjudged(generated), dict[str, AlsFactors]()
    n_users, n_sparse = users.count(), users.where("is_sparse").count()
    if refusal := _nothing_to_prove(users, read("user_sparsity"), n_sparse, settings):
        judged = [replace(candidate, verdict=refusal[0], reason=refusal[1]) for candidate in candidates]
    else:
        plain = plain_als(context)
        context.log(f"screening {len(candidates)} candidates against ALS without fill, {plain.setting.text()}")
        judged = screen(context, plain, users, generated, candidates)
        finalists = [item.candidate for item in judged if not item.verdict]
        if finalists:
            context.log(f"confirming {', '.join(finalists)} by fitting ALS again")
            models = fits_with_fill(context, plain, generated, finalists)
            judged = confirm(context, plain, users, models, judged)
        judged = settle(judged, settings)
    judged = [*judged, _without_fill(judged)]
    context.lake.write("gate_decisions", _rows(context, judged, n_sparse, n_users))
    accepted = next(item for item in judged if item.verdict == "accepted")
    _hand_over(context, accepted.candidate, models.get(accepted.candidate))
    return f"{len(candidates)} candidates; accepted: {accepted.candidate}: {accepted.reason}"


def _nothing_to_prove(users: DataFrame, sparsity: DataFrame, n_sparse: int, settings: Gate) -> tuple[str, str] | None:
    """Return verdict and reason for all candidates where validation users cannot prove anything."""
    if n_sparse < settings.min_validation_users:
        reason = f"{n_sparse} sparse validation users, {settings.min_validation_users} are needed to prove anything"
        return _TOO_FEW, reason
    buckets = [row.bucket for row in sparsity.join(users, "user_idx", "semi").select("bucket").distinct().collect()]
    if len(buckets) == 1:
        reason = f"all validation users are in bucket {buckets[0]}: nothing shows whether a fill harms others"
        return _SINGLE_BUCKET, reason
    return None


def _hand_over(context: Context, candidate: str, model: AlsFactors | None) -> None:
    """Write als_filled_factors, so that als_choose need not fit the accepted fill again."""
    rows = context.lake.frame("als_filled_factors", [])
    if model is not None:
        rows = factor_rows(context.spark, model).withColumn("fill", F.lit(candidate))
    context.lake.write("als_filled_factors", rows)


def judged_users(train: DataFrame, held_out: DataFrame, sparsity: DataFrame) -> DataFrame:
    """Return one row per user with held-out ratings: user_idx, items (those of `train`), relevant, is_sparse.

    `sparsity` is table user_sparsity.
    """
    relevant = held_out.groupBy("user_idx").agg(F.sort_array(F.collect_set("item_idx")).alias("relevant"))
    return (
        relevant.join(histories(train).drop("ratings"), "user_idx", "left")
        .join(sparsity.select("user_idx", "is_sparse"), "user_idx", "left")
        .withColumn("items", F.coalesce("items", F.array().cast("array<int>")))
        .withColumn("is_sparse", F.coalesce("is_sparse", F.lit(False)))
    )


def unjudged(generated: DataFrame) -> list[Judgement]:
    """Return the candidates of generated_ratings, in order of name."""
    rows = generated.groupBy("candidate").agg(F.first("generator").alias("generator")).orderBy("candidate").collect()
    return [Judgement(row.candidate, is_popularity=row.generator == "popularity") for row in rows]


@dataclass(frozen=True)
class Plain:
    """ALS fitted without fill, and what every filled fit shares: its setting and the time that ages count from."""

    model: AlsFactors
    setting: Setting
    latest: float

    def weighted(self, ratings: DataFrame) -> DataFrame:
        """Return the ratings as the fit weighs them."""
        return weighted(ratings, self.setting, self.latest)


def plain_als(context: Context) -> Plain:
    """Return the fit of stage als_setting."""
    read = context.lake.read
    setting = chosen_setting(read("als_choices", "choose"))
    return Plain(factors_of(read("als_unfilled_factors")), setting, latest_time(read("train_ratings")))


def _fitted(context: Context, users: DataFrame, models: dict[str, AlsFactors]) -> dict[tuple[str, str], Totals]:
    """Return totals of fitted models by (name, segment), over all validation users."""
    settings, rows = context.config.gate, users
    arrays: dict[str, NDArray[Any]] = {}
    columns = {f"system_{position}": name for position, name in enumerate(models)}
    for position, (column, model) in enumerate(zip(columns, models.values(), strict=True)):
        rows = rows.join(model.users.select("user_idx", F.col("factors").alias(column)), "user_idx", "left")
        arrays[f"vectors_{position}"], arrays[f"known_{position}"] = model.item_slots()
    systems = fitted_systems(list(columns), ship(context.spark, **arrays))
    totals = added_up(system_sums(rows, systems, settings.k, settings.bootstrap_samples, context.seed))
    return {(columns[column], segment): total for (column, segment), total in totals.items()}


def screen(
    context: Context, plain: Plain, users: DataFrame, generated: DataFrame, candidates: list[Judgement]
) -> list[Judgement]:
    """Return the candidates with their lift by fold-in; all but the finalists already have a verdict.

    A sample of gate.screen_users sparse validation users is judged. Finalists also have to beat, by the same fold-in,
    the popularity fills, their own rows given to other users, and as many rows of ALS's own best items.
    """
    settings, train = context.config.gate, context.lake.read("train_ratings")
    chance = F.xxhash64(F.lit(context.seed), "user_idx")
    drawn = users.where("is_sparse").orderBy(chance, "user_idx").limit(settings.screen_users)
    sample = drawn.join(histories(plain.weighted(train)).select("user_idx", "ratings"), "user_idx", "left").cache()
    of_sample = generated.join(sample.select("user_idx"), "user_idx", "left_semi")
    fills = fill_ratings(of_sample, train, context.config.merge.fill_weight, ("candidate",))
    totals = _folded(context, plain, sample, fills, [item.candidate for item in candidates])
    judged = [_judge(item, totals, settings.confidence) for item in candidates]
    ahead = sorted(judged, key=lambda item: (-_low_value(item), item.candidate))
    promising = [item for item in ahead if not item.is_popularity and item.sparse is not None and item.sparse.high > 0]
    finalists = [item.candidate for item in promising[: settings.finalists]]
    controls: dict[str, float] = {}
    if finalists:
        own = of_sample.where(F.col("candidate").isin(finalists))
        echoed = self_training(context, plain.model, sample, own)
        shuffled = shuffled_users(own, context.seed).select(echoed.columns)
        fills = fill_ratings(shuffled.unionByName(echoed), train, context.config.merge.fill_weight, ("candidate",))
        names = [kind + name for kind in (_SHUFFLED, _SELF_TRAINING) for name in finalists]
        totals = _folded(context, plain, sample, fills, names)
        controls = {name: _lift(totals, name, settings.confidence).value for name in names}
    sample.unpersist()
    popular = max((item.sparse.value for item in judged if item.is_popularity and item.sparse), default=None)
    return [_screened(item, finalists, controls, popular) for item in judged]


def _folded(
    context: Context, plain: Plain, sample: DataFrame, fills: DataFrame, names: list[str]
) -> dict[tuple[str, str], Totals]:
    """Return totals of the systems none and `names`: the sample's users folded in with the fills of that candidate."""
    settings = context.config.gate
    vectors, known = plain.model.item_slots()
    codes = F.array_position(F.array(*(F.lit(name) for name in names)), F.col("candidate")).cast("int") - 1
    implicit, rows = context.config.als.implicit, plain.weighted(fills)
    rows = with_soft_targets(rows, plain.setting.alpha) if implicit else rows
    coded = rows.withColumn("code", codes).where(F.col("item_idx") < len(vectors))
    entry = F.struct("code", "item_idx", F.col("rating").cast("float").alias("rating"))
    per_user = coded.groupBy("user_idx").agg(F.sort_array(F.collect_list(entry)).alias("fill"))
    joined = sample.join(per_user, "user_idx", "left").select(
        "user_idx",
        "items",
        "ratings",
        "relevant",
        "is_sparse",
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
    systems = fold_in_systems(names, facts, plain.setting.regularisation, plain.setting.alpha, implicit)
    return added_up(system_sums(joined, systems, settings.k, settings.bootstrap_samples, context.seed))


def shuffled_users(generated: DataFrame, seed: int) -> DataFrame:
    """Return `generated` with each candidate's rows handed on to the next of its users in an order by hash."""
    owners = generated.select("candidate", "user_idx").distinct()
    order = Window.partitionBy("candidate").orderBy(F.xxhash64(F.lit(seed), "user_idx"), "user_idx")
    everyone = Window.partitionBy("candidate")
    placed = owners.withColumn("place", F.row_number().over(order)).withColumn("n", F.count("*").over(everyone))
    next_place = (F.col("place") % F.col("n") + 1).alias("place")
    giver = placed.select("candidate", F.col("user_idx").alias("giver"), next_place)
    pairs = giver.join(placed.select("candidate", "place", "user_idx"), ["candidate", "place"])
    handed = generated.withColumnRenamed("user_idx", "giver").join(pairs, ["candidate", "giver"])
    return handed.withColumn("candidate", F.concat(F.lit(_SHUFFLED), "candidate")).select(generated.columns)


def self_training(context: Context, model: AlsFactors, sample: DataFrame, generated: DataFrame) -> DataFrame:
    """Return for each user in `sample` ALS's own best unseen items as rows of fills.

    Columns: candidate, user_idx, item_idx, confidence, preference. For each candidate in `generated` as many as it
    gives a user at most, at each place with its mean confidence there, and with its preference.
    """
    places = generated.groupBy("candidate", (F.col("position") - 1).alias("place"))
    strengths = places.agg(F.avg("confidence").alias("confidence"), F.min("preference").alias("preference"))
    n = generated.agg(F.max("position").alias("n")).collect()[0]["n"] or 0
    ranked = rank_catalogue(sample.join(model.users, "user_idx"), by_factors(context.spark, model), n)
    placed = ranked.select("user_idx", F.posexplode("items").alias("place", "item_idx"))
    named = F.concat(F.lit(_SELF_TRAINING), F.col("candidate")).alias("candidate")
    filled = placed.join(F.broadcast(strengths), "place")
    return filled.select(named, "user_idx", "item_idx", "confidence", "preference")


def confirm(
    context: Context, plain: Plain, users: DataFrame, models: dict[str, AlsFactors], judged: list[Judgement]
) -> list[Judgement]:
    """Return the candidates with the finalists judged by ALS fitted again (`models`), on every validation user."""
    finalists = [item for item in judged if not item.verdict]
    found = compared(context, users, plain, models, finalists)
    return [found.get(item.candidate, item) for item in judged]


def fits_with_fill(context: Context, plain: Plain, generated: DataFrame, names: list[str]) -> dict[str, AlsFactors]:
    """Return ALS fitted on train + fill for each of the candidates `names`, with the setting of `plain`."""
    train, als, models = context.lake.read("train_ratings"), context.config.als, {}
    observed = train.withColumn("preference", F.lit(1.0))
    seed, checkpoints = stable_seed(context.seed, "als"), f"{context.work_dir}/mllib"
    for name in names:
        rows = fill_ratings(generated.where(F.col("candidate") == name), train, context.config.merge.fill_weight)
        filled = observed.select(rows.columns).unionByName(rows)
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
    return {
        item.candidate: replace(
            _judge(item, totals, confidence), level="confirm", overall=_lift(totals, item.candidate, confidence, "all")
        )
        for item in finalists
    }


def _lift(totals: dict[tuple[str, str], Totals], name: str, confidence: float, segment: str = "sparse") -> Lift:
    return relative_lift(totals[NONE, segment].sums, totals[name, segment].sums, confidence)


def _judge(item: Judgement, totals: dict[tuple[str, str], Totals], confidence: float) -> Judgement:
    before, after = totals[NONE, "sparse"], totals[item.candidate, "sparse"]
    return replace(
        item,
        before=round(float(before.sums[0]) / before.n, 12),
        after=round(float(after.sums[0]) / after.n, 12),
        sparse=_lift(totals, item.candidate, confidence),
        coverage_ratio=after.n_listed / before.n_listed if before.n_listed else None,
    )


def _low_value(item: Judgement) -> float:
    return item.sparse.value if item.sparse is not None else -np.inf


def _screened(item: Judgement, finalists: list[str], controls: dict[str, float], popular: float | None) -> Judgement:
    """Return the candidate with the rule that refused it at the screen; without a verdict it goes on."""
    lift = item.sparse
    if lift is None:
        return item
    found = f"sparse users {_words(lift)} by fold-in"
    if item.is_popularity:
        return replace(item, verdict="no_better_than_popularity", reason=f"{found}; it is the control of the others")
    if lift.high <= 0:
        return replace(item, verdict="interval_includes_zero", reason=f"{found}: no gain")
    if item.candidate not in finalists:
        return replace(item, verdict="not_a_finalist", reason=f"{found}; others promise more")
    if popular is not None and lift.value <= popular:
        return replace(item, verdict="no_better_than_popularity", reason=f"{found}; a popularity fill {popular:+.1%}")
    shuffled, echoed = (controls[kind + item.candidate] for kind in (_SHUFFLED, _SELF_TRAINING))
    if lift.value <= shuffled:
        reason = f"{found}; with the rows of other users {shuffled:+.1%}: it is not personal"
        return replace(item, verdict="no_better_than_shuffled", reason=reason)
    if lift.value <= echoed:
        reason = f"{found}; with ALS's own best items {echoed:+.1%}: it tells ALS nothing new"
        return replace(item, verdict="no_better_than_self_training", reason=reason)
    return item


def settle(judged: list[Judgement], settings: Gate) -> list[Judgement]:
    """Return the candidates with a verdict each: of those that pass every rule, the surest gain is accepted."""
    ruled = [item if item.verdict else replace(item, verdict=refusal(item, settings)) for item in judged]
    passed = [item for item in ruled if not item.verdict]
    best = max(passed, key=lambda item: (item.sparse.low if item.sparse else 0.0, item.candidate), default=None)
    return [
        item if item.reason else replace(item, verdict=item.verdict or _place(item, best), reason=_reason(item, best))
        for item in ruled
    ]


def refusal(item: Judgement, settings: Gate) -> str:
    """Return the rule that a confirmed candidate breaks, or an empty text."""
    if item.sparse is None or item.sparse.low <= 0:
        return "interval_includes_zero"
    if item.overall is None or item.overall.low <= -settings.overall_tolerance:
        return "harms_overall"
    if item.coverage_ratio is None or item.coverage_ratio < settings.min_coverage_ratio:
        return "narrows_coverage"
    return ""


def _place(item: Judgement, best: Judgement | None) -> str:
    return "accepted" if item is best else "not_the_best"


def _reason(item: Judgement, best: Judgement | None) -> str:
    parts = [f"sparse users {_words(item.sparse)}"] if item.sparse else []
    if item.overall:
        parts.append(f"all users {_words(item.overall)}")
    if item.coverage_ratio is not None:
        parts.append(f"coverage x {item.coverage_ratio:.2f}")
    if not item.verdict and best is not None and item is not best:
        parts.append(f"{best.candidate} gains more surely")
    return ", ".join(parts) + f" (NDCG, {item.level})"


def _words(lift: Lift) -> str:
    return f"{lift.value:+.1%} [{lift.low:+.1%}, {lift.high:+.1%}]"


def _without_fill(judged: list[Judgement]) -> Judgement:
    """Return the judgement of filling nothing, which wins when nothing is proven."""
    known = next((item for item in judged if item.level == "confirm"), None) or next(iter(judged), None)
    zero = Lift(0.0, 0.0, 0.0)
    before, level = (known.before, known.level) if known else (0.0, "screen")
    plain = Judgement(NONE, False, level, before, before, zero, zero, 1.0)
    winner = next((item.candidate for item in judged if item.verdict == "accepted"), None)
    if winner is not None:
        return replace(plain, verdict="beaten", reason=f"{winner} is provably better")
    nothing = "no candidate was generated" if known is None else f"none of {len(judged)} candidates is proven"
    for_all = next((item.reason for item in judged if item.verdict in (_TOO_FEW, _SINGLE_BUCKET)), None)
    return replace(plain, verdict="accepted", reason=for_all or nothing)


def _rows(context: Context, judged: list[Judgement], n_sparse: int, n_users: int) -> DataFrame:
    def bounds(lift: Lift | None) -> tuple[float | None, float | None, float | None]:
        return (lift.value, lift.low, lift.high) if lift is not None else (None, None, None)

    return context.lake.frame(
        "gate_decisions",
        [
            (
                item.candidate,
                item.level,
                item.before,
                item.after,
                *bounds(item.sparse),
                *bounds(item.overall),
                item.coverage_ratio,
                n_sparse,
                n_users,
                item.verdict == "accepted",
                item.verdict,
                item.reason,
            )
            for item in judged
        ],
    )
