"""Choose the blend on validation, blend the members' lists, and give every user n items or a code."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.context import Context
from ganrec_spark.distributed.fusion import Fusion, fuse_lists, grid_sums, rerank_examples, serve
from ganrec_spark.distributed.popularity import ANYONE
from ganrec_spark.distributed.ranking import spread
from ganrec_spark.distributed.ship import Shipped, ship
from ganrec_spark.errors import InputError
from ganrec_spark.fills import NONE
from ganrec_spark.pipeline import MEMBERS
from ganrec_spark.ranking import rerank
from ganrec_spark.ranking.blend import centres, choose, weight_grid
from ganrec_spark.ranking.serving import NO_REASON
from ganrec_spark.seeding import stable_seed
from ganrec_spark.sources import explained

_K = 10
_TAIL = "trending"  # serves users without history, and fills up lists
_TAIL_BIT = 1 << MEMBERS.index(_TAIL)


@dataclass(frozen=True)
class Blend:
    """A variant of the blend: weights [M] in MEMBERS' order, fusion, NDCG@10 on validation for all and sparse users.

    `trees` are the models that reorder the head, empty where none does: one per fold for lists of phase choose,
    trained without the fold's users, and at last that of all users for phase final.
    """

    fill: str
    weights: NDArray[np.float64]
    fusion: str
    ndcg: float
    sparse_ndcg: float
    member_ndcg: tuple[float, ...]
    n_users: int
    trees: tuple[str, ...] = field(default=(), repr=False)


def run(context: Context) -> str:
    """Write blend_weights, rerank_choices, blend_candidates of both phases, recommendations and unserved_users."""
    settings = context.config.recommend
    popularity = {phase: _popularity(context, phase) for phase in ("choose", "final")}
    fills = (NONE, *_fills(context))
    judged = _judged(context, fills).cache()
    blends: list[Blend] = []
    choices: list[tuple[object, ...]] = []
    for fill in fills:
        # With a fill the fusion stays that of the plain lists.
        fused = _choose_weights(context, judged, fill, tuple(blend.fusion for blend in blends[:1]) or settings.fusion)
        blend, choice = _choose_trees(context, judged, fused, popularity["choose"])
        blends.append(blend)
        choices += choice
    judged.unpersist()
    published = published_blend(blends)
    context.lake.write("blend_weights", _weight_rows(context, blends, published))
    context.lake.write("rerank_choices", context.lake.frame("rerank_choices", choices))
    fusions = {
        phase: {blend.fill: _fusion(context, blend, phase, popularity[phase]) for blend in blends}
        for phase in ("choose", "final")
    }
    joined = _member_lists(context, _users(context), "choose", fills)
    fused_lists = fuse_lists(joined, fusions["choose"], _TAIL, settings.n_candidates)
    context.lake.write("blend_candidates", fused_lists, "choose")
    # Cached: three tables are cut from it.
    served = _served_lists(context, fusions["final"], published.fill).cache()
    context.lake.write("blend_candidates", _served_candidates(served, fills), "final")
    n_rows = context.lake.write("recommendations", _recommendations(context, served))
    n_unserved = context.lake.write("unserved_users", _unserved(context, served))
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(MEMBERS, published.weights, strict=True))
    reordered = ", reordered by trees" if published.trees else ""
    reached = f"NDCG@{_K} {published.ndcg:.4f} on {published.n_users} validation users"
    how = reached if published.n_users else "equal weights, for there are no validation users"
    blended = f"blend of fill '{published.fill}' by {published.fusion}: {weights}{reordered} ({how})"
    return f"{n_rows} recommendations, {n_unserved} users with a code; {blended}"


def _fills(context: Context) -> list[str]:
    """Return the accepted fill, in a list, or an empty list."""
    filled = context.config.merge.fill_members
    fills = [context.lake.read(f"{member}_candidates", "choose").select("fill") for member in filled]
    if not fills:
        return []
    rows = reduce(DataFrame.unionByName, fills).where(F.col("fill") != NONE).distinct().orderBy("fill").collect()
    return [row.fill for row in rows]


def _users(context: Context) -> DataFrame:
    """Return (user_idx) of every user of the run, those with held-out ratings alone included."""
    return context.lake.read("ratings").select("user_idx").distinct()


def _columns(context: Context, fill: str) -> dict[str, str]:
    """Return, by member, the column of `_member_lists` for a blend: members that learn from fills have one per fill."""
    learned = context.config.merge.fill_members if fill != NONE else ()
    return {member: f"{member}_{fill}" if member in learned else member for member in MEMBERS}


def _member_lists(context: Context, users: DataFrame, phase: str, fills: Sequence[str]) -> DataFrame:
    """Return one row per user as the fusions of `fills` read them (distributed.fusion.Fusion, `_columns`).

    Users that trending has no list for get its list for anyone.
    """
    rows = spread(users).withColumn("fold", F.pmod(F.xxhash64(F.lit(context.seed), "user_idx"), F.lit(rerank.FOLDS)))
    named = {
        column: (member, NONE if column == member else fill)
        for fill in fills
        for member, column in _columns(context, fill).items()
    }
    for column, (member, variant) in named.items():
        candidates = context.lake.read(f"{member}_candidates", phase).where(F.col("fill") == F.lit(variant))
        listed = candidates.select("user_idx", F.col("items").alias(column), F.col("scores").alias(f"{column}_scores"))
        rows = rows.join(listed, "user_idx", "left")
    tails = context.lake.read(f"{_TAIL}_candidates", phase).where(F.col("user_idx") == ANYONE)
    for column, kind in (("items", "int"), ("scores", "float")):
        name = _TAIL if column == "items" else f"{_TAIL}_{column}"
        rows = rows.join(F.broadcast(tails.select(F.col(column).alias("anyone"))), F.lit(True), "left")
        rows = rows.withColumn(name, F.coalesce(name, "anyone", F.array().cast(f"array<{kind}>"))).drop("anyone")
    observed = context.lake.read("merged_ratings", phase).where("source = 'observed'")
    return rows.join(observed.groupBy("user_idx").agg(F.count("*").alias("n_ratings")), "user_idx", "left")


def _judged(context: Context, fills: Sequence[str]) -> DataFrame:
    """Return the rows of validation users, with relevant (held-out items) and is_sparse (NULL: no training rating).

    As many as weights or trees are judged on, drawn by a hash, column chance.
    """
    settings = context.config.recommend
    n = max(settings.weight_users, settings.rerank_users if settings.reranker != "none" else 0)
    held_out = context.lake.read("validation_ratings")
    relevant = held_out.groupBy("user_idx").agg(F.sort_array(F.collect_set("item_idx")).alias("relevant"))
    chance = F.xxhash64(F.lit(context.seed), F.col("user_idx"))
    drawn = relevant.withColumn("chance", chance).orderBy("chance", "user_idx").limit(n)
    sparse = context.lake.read("user_sparsity").select("user_idx", "is_sparse")
    rows = _member_lists(context, drawn, "choose", fills)
    return rows.join(sparse, "user_idx", "left")


def _first(judged: DataFrame, n: int) -> DataFrame:
    """Return the n users of `_judged` that were drawn first."""
    last = judged.select("chance").orderBy("chance").limit(n).agg(F.max("chance").alias("last")).collect()[0]["last"]
    return judged.where(F.col("chance") <= F.lit(last))


def _popularity(context: Context, phase: str) -> Shipped:
    """Ship the log of 1 + each item's number of users, which the trees read. Driver memory: a number per item."""
    observed = context.lake.read("merged_ratings", phase).where("source = 'observed'")
    counts = observed.groupBy("item_idx").agg(F.count("*").alias("n")).toPandas()
    popularity = np.zeros(_slots(context), dtype=np.float32)
    popularity[counts["item_idx"].to_numpy(dtype=np.int64)] = np.log1p(counts["n"].to_numpy(dtype=np.float32))
    return ship(context.spark, popularity=popularity)


def _slots(context: Context) -> int:
    """Return 1 + the largest item index of the run."""
    last = context.lake.read("ratings").agg(F.max("item_idx").alias("last")).first()
    return 1 + int(last.last) if last is not None and last.last is not None else 0


def _fusion(context: Context, blend: Blend, phase: str, popularity: Shipped) -> Fusion:
    """Return what fuses the phase's lists: in phase final the model of all users serves every fold."""
    settings = context.config.recommend
    models = blend.trees[: rerank.FOLDS] if phase == "choose" else blend.trees[rerank.FOLDS :] * rerank.FOLDS
    members = tuple(_columns(context, blend.fill).values())
    return Fusion(
        members, blend.weights, blend.fusion, settings.fusion_constant, settings.rerank_depth, popularity, models
    )


def _choose_weights(context: Context, judged: DataFrame, fill: str, fusions: Sequence[str]) -> Blend:
    """Return the one of `fusions` and the weights with the best NDCG@10 on validation, users `judged`.

    Weights are of the grid, or the middle of its best. Equal weights where nobody is held out.
    """
    settings = context.config.recommend
    rows, columns = _first(judged, settings.weight_users), tuple(_columns(context, fill).values())
    grid = weight_grid(len(MEMBERS), settings.weight_step)
    blends: list[Blend] = []
    for fusion in fusions:
        first = _graded(context, rows, columns, grid, fusion)
        if not first.n:
            blends.append(Blend(fill, grid[0], fusion, 0.0, 0.0, (0.0,) * len(MEMBERS), 0))
            break
        middles = centres(grid, first.ndcg)
        second = _graded(context, rows, columns, middles, fusion)
        corners = [int(np.flatnonzero(grid[:, member] == 1)[0]) for member in range(len(MEMBERS))]
        alone = tuple(round(float(first.ndcg[corner]), 12) for corner in corners)
        weights = np.concatenate([grid, middles])
        ndcg, sparse = (np.concatenate(pair) for pair in ((first.ndcg, second.ndcg), (first.sparse, second.sparse)))
        best = choose(ndcg)
        found = (round(float(ndcg[best]), 12), round(float(sparse[best]), 12))
        blends.append(Blend(fill, weights[best], fusion, *found, alone, first.n))
        context.log(f"fill '{fill}', by {fusion}: validation NDCG@{_K} {ndcg[best]:.4f}")
    return blends[choose(np.array([blend.ndcg for blend in blends]))]


@dataclass(frozen=True)
class _Graded:
    """NDCG@10 [W] of each of the settings, over all and over sparse validation users, and the number of them all."""

    ndcg: NDArray[np.float64]
    sparse: NDArray[np.float64]
    n: int


def _graded(
    context: Context, judged: DataFrame, columns: Sequence[str], weights: NDArray[np.float64], fusion: str
) -> _Graded:
    """Return what weights [W, M] of the lists in `columns` reach; without validation users all is empty and n is 0."""
    sums = grid_sums(judged, columns, weights, fusion, context.config.recommend.fusion_constant, _K)
    totals = sums.groupBy("setting").agg(*(F.sum(name).alias(name) for name in sums.columns if name != "setting"))
    table = totals.orderBy("setting").toPandas()
    ndcg = (table["total"] / table["n"].clip(lower=1)).to_numpy()
    sparse = (table["total_sparse"] / table["n_sparse"].clip(lower=1)).to_numpy()
    return _Graded(ndcg, sparse, int(table["n"].max()) if len(table) else 0)


def _choose_trees(
    context: Context, judged: DataFrame, blend: Blend, popularity: Shipped
) -> tuple[Blend, list[tuple[object, ...]]]:
    """Return the blend with trees where they are provably better on validation users that they did not learn from."""
    settings = context.config.recommend
    if settings.reranker == "none" or not blend.n_users:
        return blend, []
    rows = _first(judged, settings.rerank_users)
    counts = rows.agg(F.count("*").alias("users"), F.count_if("is_sparse").alias("sparse")).first()
    fusion = replace(_fusion(context, blend, "choose", popularity), models=())
    examples = rerank_examples(rows, fusion)
    n_hits = len(examples.fold)
    if counts is None or np.bincount(examples.fold, minlength=rerank.FOLDS).min() < settings.rerank_min_hits:
        context.log(
            f"fill '{blend.fill}': not reordered by trees, for only {n_hits} validation users have a held-out item "
            f"among their {settings.rerank_depth} first (recommend.rerank_min_hits {settings.rerank_min_hits} a fold)"
        )
        return blend, []
    seed = stable_seed(context.seed, "rerank") % 2**31
    models, changes = rerank.cross_fit(examples, settings.rerank_trees, seed, _K)
    found = rerank.verdict(changes, examples.is_sparse, counts["users"], counts["sparse"], 0.95)
    context.log(
        f"fill '{blend.fill}': trees change NDCG@{_K} by {found.change:+.4f} (at least {found.low:+.4f}), "
        f"of sparse users by {found.sparse_change:+.4f}: {'taken' if found.accepted else 'not taken'}"
    )
    final = rerank.train(examples, settings.rerank_trees, seed) if found.accepted else ""
    gains = rerank.gains(final, MEMBERS) if found.accepted else {}
    row = (blend.fill, counts["users"], n_hits, found.change, found.low, found.sparse_change, found.accepted)
    choices: list[tuple[object, ...]] = [(*row, json.dumps(gains), final)]
    if not found.accepted:
        return blend, choices
    better = replace(
        blend,
        ndcg=round(blend.ndcg + found.change, 12),
        sparse_ndcg=round(blend.sparse_ndcg + found.sparse_change, 12),
        trees=(*models, final),
    )
    return better, choices


def published_blend(blends: list[Blend]) -> Blend:
    """Return the filled blend if it is no worse than the plain one, which comes first, for all and for sparse users."""
    plain = blends[0]
    for blend in blends[1:]:
        if blend.n_users and blend.ndcg >= plain.ndcg and blend.sparse_ndcg >= plain.sparse_ndcg:
            return blend
    return plain


def _weight_rows(context: Context, blends: list[Blend], published: Blend) -> DataFrame:
    return context.lake.frame(
        "blend_weights",
        [
            (blend.fill, member, float(weight), blend.fusion, blend.ndcg, alone, blend is published)
            for blend in blends
            for member, weight, alone in zip(MEMBERS, blend.weights, blend.member_ndcg, strict=True)
        ],
    )


def _served_lists(context: Context, fusions: Mapping[str, Fusion], published: str) -> DataFrame:
    """Return one row per user of the run: the final list with sources and explanations (distributed.fusion.serve)."""
    observed = context.lake.read("merged_ratings", "final").where("source = 'observed'")
    seen = observed.groupBy("user_idx").agg(F.sort_array(F.collect_set("item_idx")).alias("seen"))
    rows = _member_lists(context, _users(context), "final", tuple(fusions)).join(seen, "user_idx", "left")
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
    """Ship the arrays of ranking.serving.Catalogue. Driver memory: a few numbers per item, nothing per user."""
    settings, lake = context.config.recommend, context.lake
    counts = observed.groupBy("item_idx").agg(F.count("*").alias("n"))
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
    """Return the indices of the items named in a file or table with a column item_id; unknown ids do not matter."""
    spark, suffix = context.spark, Path(source).suffix.lower()
    with explained(source, f"check recommend.{key}"):
        if suffix in (".csv", ".tsv"):
            frame = spark.read.csv(source, header=True, sep="\t" if suffix == ".tsv" else ",")
        elif "/" in source or suffix == ".parquet":
            frame = spark.read.parquet(source)
        else:
            frame = spark.table(source)
        if "item_id" not in frame.columns:
            raise InputError(f"recommend.{key} '{source}': expected a column item_id, found {', '.join(frame.columns)}")
        named = frame.select(F.col("item_id").cast("string").alias("item_id")).distinct()
        rows = context.lake.read("items").join(named, "item_id").select("item_idx").toPandas()
    return rows["item_idx"].to_numpy(dtype=np.int64)


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
