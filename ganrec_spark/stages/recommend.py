"""Choose the blend on validation, blend the members' lists, and give every user n items or a code."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.blend import rerank
from ganrec_spark.blend.fusion import Fusion, fuse_lists, fused_systems, grid_values, rerank_examples, serve
from ganrec_spark.blend.serving import NO_REASON
from ganrec_spark.blend.weights import bagged, weight_grid
from ganrec_spark.errors import InputError
from ganrec_spark.evaluation.bootstrap import bonferroni, poisson_weights
from ganrec_spark.evaluation.draws import SCREENING_PARTS, drawn, part
from ganrec_spark.evaluation.metrics import JUDGED_K
from ganrec_spark.fills.lift import added_up, segment_lifts, system_sums
from ganrec_spark.fills.ratings import NONE
from ganrec_spark.fills.rules import Judgement, refusal, segment_rows, words
from ganrec_spark.frames.histories import spread
from ganrec_spark.frames.observed import relevant_items, users_per_item
from ganrec_spark.frames.ship import Shipped, ship
from ganrec_spark.plan.pipeline import MEMBERS
from ganrec_spark.raw.rules import id_text
from ganrec_spark.raw.sources import explained, read_column
from ganrec_spark.recommenders.popularity import ANYONE
from ganrec_spark.run.context import Context
from ganrec_spark.seeding import stable_seed

_RESAMPLES = 200
_TAIL = "trending"  # serves users without history, and fills up lists
_TAIL_BIT = 1 << MEMBERS.index(_TAIL)


@dataclass(frozen=True)
class Blend:
    """How the members' lists are blended: weights [M] in MEMBERS' order, fusion, NDCG@10 on `n_users` who chose them.

    `trees` are the models that reorder the head, empty where none does: one per fold for lists of phase choose,
    trained without the fold's users, and at last that of all users for phase final.
    """

    weights: NDArray[np.float64]
    fusion: str
    ndcg: float
    member_ndcg: tuple[float, ...]
    n_users: int
    trees: tuple[str, ...] = field(default=(), repr=False)


def run(context: Context) -> str:
    """Write blend_weights, rerank_choices, published_fill_segments, blend_candidates of both phases, recommendations.

    And unserved_users. The blend is chosen on the lists without fill; an accepted fill changes what it reads of sparse
    users, and is published where that is proven to help them.
    """
    settings = context.config.recommend
    popularity = {phase: _popularity(context, phase) for phase in ("choose", "final")}
    fills = (NONE, *_fills(context))
    judged = _judged(context).cache()
    blend, choices = _choose_trees(context, judged, _choose_weights(context, judged), popularity["choose"])
    judged.unpersist()
    fusions = {
        phase: {fill: _fusion(context, blend, fill, phase, popularity[phase]) for fill in fills}
        for phase in ("choose", "final")
    }
    proofs = [_proof(context, fusions["choose"], fill) for fill in fills[1:]]
    published = next((proof.candidate for proof in proofs if not refusal(proof, context.config.gate)), NONE)
    rows = context.lake.frame("published_fill_segments", segment_rows(proofs))
    context.lake.write("published_fill_segments", rows)
    context.lake.write("blend_weights", _weight_rows(context, blend, fills, published))
    context.lake.write("rerank_choices", context.lake.frame("rerank_choices", choices))
    joined = _member_lists(context, _users(context), "choose", fills)
    fused_lists = fuse_lists(joined, fusions["choose"], _TAIL, settings.n_candidates)
    context.lake.write("blend_candidates", fused_lists, "choose")
    # Cached: three tables are cut from it.
    served = _served_lists(context, fusions["final"], published).cache()
    context.lake.write("blend_candidates", _served_candidates(served, fills), "final")
    n_rows = context.lake.write("recommendations", _recommendations(context, served))
    n_unserved = context.lake.write("unserved_users", _unserved(context, served))
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(MEMBERS, blend.weights, strict=True))
    reordered = ", reordered by trees" if blend.trees else ""
    reached = f"NDCG@{JUDGED_K} {blend.ndcg:.4f} on {blend.n_users} validation users"
    how = reached if blend.n_users else "equal weights, for there are no validation users"
    blended = f"blend of fill '{published}' by {blend.fusion}: {weights}{reordered} ({how})"
    return f"{n_rows} recommendations, {n_unserved} users with a code; {blended}"


def _fills(context: Context) -> list[str]:
    """Return the accepted fill, in a list, or an empty list."""
    fills = context.lake.read("als_candidates", "choose").where(F.col("fill") != NONE)
    return [row.fill for row in fills.select("fill").distinct().orderBy("fill").collect()]


def _users(context: Context) -> DataFrame:
    """Return (user_idx) of every user of the run, those with held-out ratings or dislikes alone included."""
    parts = [context.lake.read(name).select("user_idx") for name in ("ratings", "disliked_ratings")]
    return parts[0].union(parts[1]).distinct()


def _columns(fill: str) -> dict[str, str]:
    """Return, by member, the column of `_member_lists` for a blend: ALS, which learns from fills, has one per fill."""
    return {member: f"{member}_{fill}" if member == "als" and fill != NONE else member for member in MEMBERS}


def _member_lists(context: Context, users: DataFrame, phase: str, fills: Sequence[str]) -> DataFrame:
    """Return one row per user as the fusions of `fills` read them (blend.fusion.Fusion, `_columns`).

    Users that trending has no list for get its list for anyone.
    """
    rows = spread(users).withColumn("fold", part("fold", context.seed, rerank.FOLDS))
    named = {
        column: (member, NONE if column == member else fill)
        for fill in fills
        for member, column in _columns(fill).items()
    }
    for column, (member, variant) in named.items():
        candidates = context.lake.read(f"{member}_candidates", phase).where(F.col("fill") == F.lit(variant))
        listed = candidates.select("user_idx", F.col("items").alias(column), F.col("scores").alias(f"{column}_scores"))
        rows = rows.join(listed, "user_idx", "left")
        if column != member:  # a fill that had no items for anyone in this phase left its recommender without lists
            for suffix in ("", "_scores"):
                rows = rows.withColumn(column + suffix, F.coalesce(column + suffix, member + suffix))
    tails = context.lake.read(f"{_TAIL}_candidates", phase).where(F.col("user_idx") == ANYONE)
    for column, kind in (("items", "int"), ("scores", "float")):
        name = _TAIL if column == "items" else f"{_TAIL}_{column}"
        rows = rows.join(F.broadcast(tails.select(F.col(column).alias("anyone"))), F.lit(True), "left")
        rows = rows.withColumn(name, F.coalesce(name, "anyone", F.array().cast(f"array<{kind}>"))).drop("anyone")
    observed = context.lake.read("merged_ratings", phase).where("source = 'observed'")
    return rows.join(observed.groupBy("user_idx").agg(F.count("*").alias("n_ratings")), "user_idx", "left")


def _judged(context: Context) -> DataFrame:
    """Return the rows of validation users, with relevant (held-out items) and is_sparse (NULL: no training rating).

    Those who judge weights and those who judge trees, apart where there are enough (draws): columns of these names are
    true for them, else NULL.
    """
    settings = context.config.recommend
    wanted = {"weights": settings.weight_users, "trees": settings.rerank_users if settings.reranker != "none" else 0}
    rows = _relevant(context)
    for purpose, n in wanted.items():
        users = drawn(rows.select("user_idx"), purpose, context.seed, n).withColumn(purpose, F.lit(True))
        rows = rows.join(users, "user_idx", "left")
    rows = _member_lists(context, rows.where("weights OR trees"), "choose", (NONE,))
    return rows.join(context.lake.read("user_sparsity").select("user_idx", "is_sparse"), "user_idx", "left")


def _relevant(context: Context) -> DataFrame:
    """Return (user_idx, relevant): the held-out items of every validation user."""
    return relevant_items(context.lake.read("validation_ratings"))


def _popularity(context: Context, phase: str) -> Shipped:
    """Ship the log of 1 + each item's number of users, which the trees read. Driver memory: a number per item."""
    observed = context.lake.read("merged_ratings", phase).where("source = 'observed'")
    counts = users_per_item(observed).toPandas()
    popularity = np.zeros(_slots(context), dtype=np.float32)
    popularity[counts["item_idx"].to_numpy(dtype=np.int64)] = np.log1p(counts["n"].to_numpy(dtype=np.float32))
    return ship(context.spark, popularity=popularity)


def _slots(context: Context) -> int:
    """Return 1 + the largest item index of the run."""
    last = context.lake.read("ratings").agg(F.max("item_idx").alias("last")).first()
    return 1 + int(last.last) if last is not None and last.last is not None else 0


def _fusion(context: Context, blend: Blend, fill: str, phase: str, popularity: Shipped) -> Fusion:
    """Return what fuses the phase's lists of a fill: in phase final the model of all users serves every fold."""
    settings = context.config.recommend
    models = blend.trees[: rerank.FOLDS] if phase == "choose" else blend.trees[rerank.FOLDS :] * rerank.FOLDS
    members = tuple(_columns(fill).values())
    return Fusion(
        members, blend.weights, blend.fusion, settings.fusion_constant, settings.rerank_depth, popularity, models
    )


def _choose_weights(context: Context, judged: DataFrame) -> Blend:
    """Return the fusion and the weights that resamples of validation users choose by NDCG@10 (blend.weights.bagged).

    Equal weights where nobody is held out.
    """
    settings, rows = context.config.recommend, judged.where("weights")
    grid = weight_grid(len(MEMBERS), settings.weight_step)

    def graded(fusion: str, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return grid_values(rows, MEMBERS, weights, fusion, settings.fusion_constant, JUDGED_K)

    found = [graded(fusion, grid) for fusion in settings.fusion]
    n_users = len(found[0])
    if not n_users:
        return Blend(grid[0], settings.fusion[0], 0.0, (0.0,) * len(MEMBERS), 0)
    resampled = poisson_weights(np.arange(n_users), _RESAMPLES, stable_seed(context.seed, "weights"))[:, 1:]
    place, weights = bagged(grid, found, resampled)
    fusion = settings.fusion[place]
    corners = [int(np.flatnonzero(grid[:, member] == 1)[0]) for member in range(len(MEMBERS))]
    alone = tuple(round(float(found[place][:, corner].mean()), 12) for corner in corners)
    ndcg = round(float(graded(fusion, weights[None, :]).mean()), 12)
    best = found[place].mean(axis=0).max()
    context.log(f"by {fusion}: validation NDCG@{JUDGED_K} {ndcg:.4f}, the best of the grid {best:.4f}")
    return Blend(weights, fusion, ndcg, alone, n_users)


def _proof(context: Context, fusions: Mapping[str, Fusion], fill: str) -> Judgement:
    """Return what a fill does to the blend's lists of the validation users who confirmed it at the gate.

    They did not screen it, and the blend was chosen without it. The rule is the gate's, its intervals those of as many
    finalists as it may have.
    """
    gate = context.config.gate
    users = _relevant(context).where(part("gate", context.seed, SCREENING_PARTS) != 0)
    sparsity = context.lake.read("user_sparsity").select("user_idx", "is_sparse", "bucket")
    rows = _member_lists(context, users, "choose", tuple(fusions)).join(sparsity, "user_idx", "left")
    systems = fused_systems({name: fusions[name] for name in (NONE, fill)}, _TAIL, gate.k)
    totals = added_up(system_sums(rows, systems, gate.k, gate.bootstrap_samples, context.seed))
    before, after = totals[NONE, "sparse"], totals[fill, "sparse"]
    proof = Judgement(
        fill,
        level="confirm",
        segments=segment_lifts(totals, NONE, fill, bonferroni(gate.confidence, gate.finalists)),
        coverage_ratio=after.n_listed / max(1, before.n_listed),
    )
    broken = refusal(proof, gate)
    told = f"sparse users {words(proof.sparse)}" if proof.sparse else "no sparse users"
    context.log(f"fill '{fill}' in the blend: {told}: {f'not published, {broken}' if broken else 'published'}")
    return proof


def _choose_trees(
    context: Context, judged: DataFrame, blend: Blend, popularity: Shipped
) -> tuple[Blend, list[tuple[object, ...]]]:
    """Return the blend with trees where they are provably better on validation users that they did not learn from."""
    settings = context.config.recommend
    if settings.reranker == "none" or not blend.n_users:
        return blend, []
    rows = judged.where("trees")
    counts = rows.agg(F.count("*").alias("users"), F.count_if("is_sparse").alias("sparse")).first()
    fusion = _fusion(context, blend, NONE, "choose", popularity)
    examples = rerank_examples(rows, fusion)
    n_hits = len(examples.fold)
    if counts is None or np.bincount(examples.fold, minlength=rerank.FOLDS).min() < settings.rerank_min_hits:
        context.log(
            f"not reordered by trees, for only {n_hits} validation users have a held-out item "
            f"among their {settings.rerank_depth} first (recommend.rerank_min_hits {settings.rerank_min_hits} a fold)"
        )
        return blend, []
    seed = stable_seed(context.seed, "rerank") % 2**31
    models, changes = rerank.cross_fit(examples, settings.rerank_trees, seed, JUDGED_K)
    found = rerank.verdict(changes, examples.is_sparse, counts["users"], counts["sparse"], 0.95)
    context.log(
        f"trees change NDCG@{JUDGED_K} by {found.change:+.4f} (at least {found.low:+.4f}), "
        f"of sparse users by {found.sparse_change:+.4f}: {'taken' if found.accepted else 'not taken'}"
    )
    final = rerank.train(examples, settings.rerank_trees, seed) if found.accepted else ""
    gains = rerank.gains(final, MEMBERS) if found.accepted else {}
    row = (NONE, counts["users"], n_hits, found.change, found.low, found.sparse_change, found.accepted)
    choices: list[tuple[object, ...]] = [(*row, json.dumps(gains), final)]
    if not found.accepted:
        return blend, choices
    return replace(blend, ndcg=round(blend.ndcg + found.change, 12), trees=(*models, final)), choices


def _weight_rows(context: Context, blend: Blend, fills: Sequence[str], published: str) -> DataFrame:
    reached = [(blend.ndcg, alone) for alone in blend.member_ndcg]
    return context.lake.frame(
        "blend_weights",
        [
            (fill, member, float(weight), blend.fusion, *(judged if fill == NONE else (None, None)), fill == published)
            for fill in fills
            for member, weight, judged in zip(MEMBERS, blend.weights, reached, strict=True)
        ],
    )


def _served_lists(context: Context, fusions: Mapping[str, Fusion], published: str) -> DataFrame:
    """Return one row per user of the run: the final list with sources and explanations (blend.fusion.serve)."""
    observed = context.lake.read("merged_ratings", "final").where("source = 'observed'")
    seen = observed.groupBy("user_idx").agg(F.sort_array(F.collect_set("item_idx")).alias("seen"))
    # An item that nobody likes is in no list anyway.
    liked = observed.select("item_idx").distinct()
    disliked = context.lake.read("disliked_ratings").join(liked, "item_idx", "left_semi").groupBy("user_idx")
    refused = disliked.agg(F.sort_array(F.collect_set("item_idx")).alias("disliked"))
    rows = _member_lists(context, _users(context), "final", tuple(fusions))
    rows = rows.join(seen, "user_idx", "left").join(refused, "user_idx", "left")
    settings = context.config.recommend
    facts = _catalogue(context, observed)
    return serve(rows, fusions, published, _TAIL, settings.n, settings.n_candidates, facts)


def _served_candidates(served: DataFrame, fills: Sequence[str]) -> DataFrame:
    """Return (fill, user_idx, items, scores): the candidates of each fill's blend beside the final lists."""
    each = F.posexplode(F.arrays_zip("candidates", "candidate_scores")).alias("place", "blend")
    names = F.array(*(F.lit(fill) for fill in fills))
    return served.select("user_idx", each).select(
        F.element_at(names, F.col("place") + 1).alias("fill"),
        "user_idx",
        F.col("blend.candidates").alias("items"),
        F.col("blend.candidate_scores").alias("scores"),
    )


def _catalogue(context: Context, observed: DataFrame) -> Shipped:
    """Ship the arrays of blend.serving.Catalogue. Driver memory: a few numbers per item, nothing per user."""
    settings, lake = context.config.recommend, context.lake
    counts = users_per_item(observed)
    popular = counts.orderBy(F.col("n").desc(), "item_idx").toPandas()["item_idx"].to_numpy(dtype=np.int32)
    slots = _slots(context)
    allowed = np.zeros(slots, dtype=np.bool_)
    allowed[popular] = True
    if settings.available_items is not None:
        allowed &= _marked(_named_items(context, settings.available_items, "available_items"), slots)
    if settings.blocked_items is not None:
        allowed &= ~_marked(_named_items(context, settings.blocked_items, "blocked_items"), slots)
    stored = lake.read("item_item_weights", "final").where(F.col("fill") == NONE)
    pairs = stored.select("item_idx", F.explode(F.arrays_zip("neighbours", "weights")).alias("pair"))
    helpful = pairs.select("item_idx", "pair.*").where("weights > 0")
    table = helpful.orderBy("item_idx", F.col("weights").desc(), "neighbours").toPandas()
    lengths = np.bincount(table["item_idx"].to_numpy(dtype=np.int64), minlength=slots)
    return ship(
        context.spark,
        popular=popular,
        allowed=allowed,
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        neighbours=table["neighbours"].to_numpy(dtype=np.int32),
    )


def _named_items(context: Context, source: str, key: str) -> NDArray[np.int64]:
    """Return the indices of the items named in a file or table with a column item_id, read as the ratings' ids are.

    Ids of items that nobody rated yet do not matter. Raises InputError where there are ids and none is known.
    """
    try:
        listed = read_column(context.spark, source, "item_id", f"check recommend.{key}")
    except InputError as error:
        raise InputError(f"recommend.{key}: {error}") from error
    kind = listed.schema["item_id"].dataType
    named = listed.select(id_text(F.col("item_id"), kind, "item_id").alias("item_id")).where("item_id <> ''").distinct()
    with explained(source, f"check recommend.{key}"):
        known = context.lake.read("items").join(named, "item_id").select("item_idx").toPandas()
        n_named = named.count()
    if not len(known) and (n_named or key == "available_items"):
        found = ", ".join(repr(row.item_id) for row in named.orderBy("item_id").limit(3).collect()) or "none"
        raise InputError(
            f"recommend.{key} '{source}': expected ids of items as the ratings have them, found {n_named} ids "
            "and none of "
            f"them among the items: {found}; compare them with table items"
        )
    context.log(f"recommend.{key}: {len(known)} of {n_named} ids are items of this lake")
    return known["item_idx"].to_numpy(dtype=np.int64)


def _marked(indices: NDArray[np.int64], slots: int) -> NDArray[np.bool_]:
    marked = np.zeros(slots, dtype=np.bool_)
    marked[indices[indices < slots]] = True
    return marked


def _recommendations(context: Context, served: DataFrame) -> DataFrame:
    """Return one row per user and listed item, with the source's ids, in the form of table recommendations."""
    zipped = F.posexplode(F.arrays_zip("items", "scores", "sources", "because")).alias("position", "entry")
    rows = served.select("user_idx", zipped).select(
        "user_idx",
        (F.col("position") + 1).alias("rank"),
        F.col("entry.items").alias("item_idx"),
        F.col("entry.scores").alias("score"),
        F.col("entry.sources").alias("bits"),
        F.col("entry.because").alias("because_idx"),
    )
    users = context.lake.read("users").select("user_id", "user_idx")
    items = context.lake.read("items").select("item_id", "item_idx")
    because = items.select(F.col("item_id").alias("because_item_id"), F.col("item_idx").alias("because_idx"))
    rows = rows.withColumn("because_idx", F.when(_popular_only(), F.lit(NO_REASON)).otherwise(F.col("because_idx")))
    named = rows.join(users, "user_idx").join(items, "item_idx").join(because, "because_idx", "left")
    return named.withColumn("sources", _source_names()).withColumn("reason", _reason()).drop("bits", "because_idx")


def _source_names() -> Column:
    names = [F.when(F.col("bits").bitwiseAND(F.lit(1 << bit)) > 0, F.lit(member)) for bit, member in enumerate(MEMBERS)]
    filled_up = F.when(F.col("bits") == 0, F.lit(_TAIL))
    return F.filter(F.array(*names, filled_up), lambda name: name.isNotNull())


def _popular_only() -> Column:
    return F.col("bits").bitwiseAND(F.lit(~_TAIL_BIT)) == 0


def _reason() -> Column:
    explained = F.when(F.col("because_idx") != NO_REASON, "history").otherwise("similar_users")
    return F.when(_popular_only(), "popular").otherwise(explained)


def _unserved(context: Context, served: DataFrame) -> DataFrame:
    """Return the users with fewer than n items; what they could be given stands in recommendations all the same."""
    n = context.config.recommend.n
    code = F.when(F.col("n_unseen") < n, "too_few_items").otherwise("blocked")
    short = served.where(F.size("items") < n).select("user_idx", code.alias("code"), "n_available")
    return short.join(context.lake.read("users").select("user_id", "user_idx"), "user_idx")
