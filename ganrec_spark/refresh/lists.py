"""Lists of single users: each member's by the published models, then the blend, the rules, arms and drawn places."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from threadpoolctl import threadpool_limits

from ganrec_spark.blend.published import explored_rows, recommendation_rows, served_lists, unserved_rows
from ganrec_spark.experiment.exposures import exposure_rows
from ganrec_spark.fills.ratings import of_variant
from ganrec_spark.frames import dislikes, ignored
from ganrec_spark.frames.audiences import audience_rows
from ganrec_spark.frames.histories import histories, with_ages
from ganrec_spark.frames.kept import kept
from ganrec_spark.frames.mapped import Mapper, by_driver, by_tasks
from ganrec_spark.frames.padded import padded_histories
from ganrec_spark.frames.ship import Shipped
from ganrec_spark.frames.users import Users
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.plan.table import NONE
from ganrec_spark.recommenders.als import candidates as als
from ganrec_spark.recommenders.als.setting import weighted
from ganrec_spark.recommenders.als.solver import fold_in_users
from ganrec_spark.recommenders.catalogue import Score
from ganrec_spark.recommenders.item_item import candidates as item_item
from ganrec_spark.recommenders.item_item.profiles import profiles
from ganrec_spark.recommenders.newcomers import fit as newcomers
from ganrec_spark.recommenders.popularity import rank_alike
from ganrec_spark.recommenders.transformer import candidates as transformer
from ganrec_spark.refresh.histories import Histories
from ganrec_spark.refresh.models import AlsModel, ItemItemModel, Models
from ganrec_spark.run.context import Context

_TRENDING = 1  # place of its order among models.Models.trending
_CANDIDATES = ("user_idx", "items", "scores")


@dataclass(frozen=True)
class UsersLake(StageLake):
    """A run's tables as they would be with new events: of some tables the rows of a few users stand in for all."""

    own: Mapping[str, DataFrame] = field(default_factory=dict)

    def read(self, table: str, phase: str | None = None) -> DataFrame:
        """Return the stand-in for a table, or this run's rows, whatever stage may read them."""
        if table in self.own:
            return self.own[table]
        return self.lake.read(table, self.run_id, phase or self.phase)


def run_lake(context: Context, own: Mapping[str, DataFrame]) -> Context:
    """Return the context with `own` in place of the run's tables of these names."""
    of = context.lake
    return replace(context, lake=UsersLake(of.lake, of.run_id, of.stage, of.phase, (), (), own=own))


def lists_of(context: Context, users: Users, rows: Histories, models: Models) -> dict[str, DataFrame]:
    """Return recommendations, unserved_users and exposures of the users, and what of users and list_rules is theirs.

    What stage recommend would list of them, were their rows those of merged_ratings and disliked_ratings, with models
    and all that hangs on other users as the run has them.
    """
    ids, rules = users.rows_of(context.lake.read("users")), context.lake.read("list_rules")
    run = by_driver if users.few else by_tasks
    with threadpool_limits(1):  # for all threads at once: by_driver's would set each other's limit
        own = kept({"users": lambda: ids} | _members(context, users, rows, models, run), users.keep)
    own |= {"merged_ratings": rows.merged, "disliked_ratings": rows.disliked}
    own["list_rules"] = users.rows_of(rules).unionByName(rules.where("user_idx IS NULL"))
    surroundings = run_lake(context, own)
    served = users.keep(served_lists(surroundings, models.fusions, models.published, users.rows, models.known, run))
    found = {
        **{name: own[name] for name in ("users", "list_rules")},
        "recommendations": users.keep(recommendation_rows(surroundings, served)),
        "unserved_users": unserved_rows(surroundings, served),
        "explored_places": explored_rows(served),
    }
    found["exposures"] = exposure_rows(run_lake(context, found))
    return found


def _members(
    context: Context, users: Users, rows: Histories, models: Models, run: Mapper
) -> dict[str, Callable[[], DataFrame]]:
    """Return what makes each member's table of candidates of these users alone; trending's has the audiences', too."""
    n = context.config.recommend.n_candidates
    observed = rows.merged.where("observed")
    seen = users.keep(dislikes.never_listed(histories(observed), rows.against))
    makers: dict[str, Callable[[], DataFrame]] = {}
    makers["als_candidates"] = lambda: _als(users, rows, seen, models.als, n, run)
    makers["item_item_candidates"] = lambda: _item_item(observed, rows, models.item_item, n, run)
    makers["transformer_candidates"] = lambda: _transformer(context, observed, rows, models.transformer, run)
    makers["strangers_candidates"] = lambda: _still_unrated(context, users, observed)
    makers["newcomers_candidates"] = lambda: _newcomers(context, observed, rows, models, run)
    makers["trending_candidates"] = lambda: _trending(seen.select("user_idx", "items"), models.trending, n, run)
    return makers


def _still_unrated(context: Context, users: Users, observed: DataFrame) -> DataFrame:
    """Return the run's lists by attributes of those of the users who still have no ratings."""
    lists = users.rows_of(context.lake.read("strangers_candidates"))
    return lists.join(observed.select("user_idx").distinct(), "user_idx", "left_anti")


def _newcomers(context: Context, observed: DataFrame, rows: Histories, models: Models, run: Mapper) -> DataFrame:
    """Return newcomers_candidates, without the items that the users have rated since the run."""
    if models.newcomers is None:
        return context.lake.frame("newcomers_candidates", [])
    history = histories(observed).select("user_idx", "items")
    if models.newcomers.by_taste:
        history = history.join(_vectors(rows, models.als, NONE), "user_idx", "left")
    ranked = newcomers.ranked_by(history, models.newcomers.score, context.config.recommend.n_candidates, run)
    known = rows.beyond.groupBy("user_idx").agg(F.collect_set("item_idx").alias("known"))
    pairs = F.filter(F.arrays_zip("items", "scores"), lambda pair: ~F.array_contains("known", pair["items"]))
    left = ranked.join(known, "user_idx", "left").withColumn("known", F.coalesce("known", F.array().cast("array<int>")))
    return left.withColumn("pairs", pairs).select("user_idx", "pairs.items", "pairs.scores")


def _item_item(observed: DataFrame, rows: Histories, model: ItemItemModel, n: int, run: Mapper) -> DataFrame:
    users = profiles(observed, model.slope, model.moments)
    users = users if model.half_life is None else with_ages(users, observed)
    return item_item.ranked_by(observed, users, model.score, rows.against, n, run)


def _transformer(context: Context, observed: DataFrame, rows: Histories, score: Score | None, run: Mapper) -> DataFrame:
    if score is None:
        return context.lake.frame("transformer_candidates", [])
    sequences = padded_histories(observed, context.config.transformer.max_length, context.seed)
    n = context.config.recommend.n_candidates
    return transformer.ranked_by(sequences, observed, score, rows.against, n, run)


def _trending(seen: DataFrame, order: Shipped, n: int, run: Mapper) -> DataFrame:
    ranked = rank_alike(seen.unionByName(audience_rows(seen)), order, _TRENDING, n, run)
    return ranked.withColumn("fill", F.lit(NONE))


def _als(users: Users, rows: Histories, seen: DataFrame, model: AlsModel, n: int, run: Mapper) -> DataFrame:
    """Return als_candidates: by vectors that are folded in; of users who are not sparse, with a fill as without."""
    ranked = [users.keep(als.ranked_by(seen, _vectors(rows, model, NONE), model.best[NONE], n, NONE, run))]
    sparse = seen.join(rows.sparse, "user_idx", "left_semi")
    for fill in (fill for fill in model.best if fill != NONE):
        ranked.append(als.ranked_by(sparse, _vectors(rows, model, fill), model.best[fill], n, fill, run))
        others = ranked[0].join(rows.sparse, "user_idx", "left_anti").withColumn("fill", F.lit(fill))
        ranked.append(others.select("fill", *_CANDIDATES))
    return reduce(DataFrame.unionByName, ranked)


def _vectors(rows: Histories, model: AlsModel, fill: str) -> DataFrame:
    """Return (user_idx, factors). The run's present stays the present."""
    ratings = of_variant(rows.merged, fill).select("user_idx", "item_idx", "rating", "ts")
    weight = model.setting.dislike_weight
    if rows.against is not None and weight:
        against = rows.against.where(F.col("rating").isNotNull())
        if model.objective.implicit:
            against = against.withColumn("rating", F.lit(-weight) * F.lit(model.typical))
        ratings = ratings.unionByName(against)
    weight = model.setting.ignored_weight
    if rows.ignored is not None and weight and model.objective.implicit:
        ratings = ratings.unionByName(ignored.against(rows.ignored, weight, F.lit(model.typical)))
    return fold_in_users(weighted(ratings, model.setting, model.latest), model.items[fill], model.objective)
