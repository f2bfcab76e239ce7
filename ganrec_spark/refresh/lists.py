"""Lists of single users: each member's by the published models, then the blend, the rules, arms and drawn places."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.blend.published import explored_rows, recommendation_rows, served_lists, unserved_rows
from ganrec_spark.experiment.exposures import exposure_rows
from ganrec_spark.fills.ratings import of_variant
from ganrec_spark.frames import dislikes
from ganrec_spark.frames.audiences import audience_rows
from ganrec_spark.frames.histories import histories, with_ages
from ganrec_spark.frames.padded import padded_histories
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.plan.table import NONE
from ganrec_spark.recommenders.als import candidates as als
from ganrec_spark.recommenders.als.setting import weighted
from ganrec_spark.recommenders.als.solver import fold_in_users
from ganrec_spark.recommenders.item_item import candidates as item_item
from ganrec_spark.recommenders.item_item.profiles import profiles
from ganrec_spark.recommenders.popularity import rank_alike
from ganrec_spark.recommenders.transformer import candidates as transformer
from ganrec_spark.refresh.histories import Histories
from ganrec_spark.refresh.models import AlsModel, Models
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


def lists_of(context: Context, users: DataFrame, rows: Histories, models: Models) -> dict[str, DataFrame]:
    """Return recommendations, unserved_users and exposures of the users (user_idx).

    What stage recommend would list of them, were their rows those of merged_ratings and disliked_ratings, with models
    and all that hangs on other users as the run has them.
    """
    ids = context.lake.read("users").join(F.broadcast(users), "user_idx", "left_semi")
    own = candidates_of(context, rows, models) | {"merged_ratings": rows.merged, "disliked_ratings": rows.disliked}
    # Made at once and kept: plans of all that these rows come through would take minutes to make.
    own = {name: frame.localCheckpoint() for name, frame in (own | {"users": ids}).items()}
    surroundings = run_lake(context, own)
    served = served_lists(surroundings, models.fusions, models.published, users, models.known).localCheckpoint()
    found = {
        "recommendations": recommendation_rows(surroundings, served).localCheckpoint(),
        "unserved_users": unserved_rows(surroundings, served),
        "explored_places": explored_rows(served),
    }
    found["exposures"] = exposure_rows(run_lake(context, found))
    return found


def candidates_of(context: Context, rows: Histories, models: Models) -> dict[str, DataFrame]:
    """Return the members' tables of candidates, of these users alone; trending's has the audiences' rows, too."""
    n = context.config.recommend.n_candidates
    observed = rows.merged.where("observed")
    seen = dislikes.never_listed(histories(observed), rows.against).localCheckpoint()
    found = {"als_candidates": _als(rows, seen, models.als, n)}
    model = models.item_item
    users = profiles(observed, model.slope, model.moments)
    users = users if model.half_life is None else with_ages(users, observed)
    found["item_item_candidates"] = item_item.ranked_by(observed, users, model.score, rows.against, n)
    if models.transformer is None:
        found["transformer_candidates"] = context.lake.frame("transformer_candidates", [])
    else:
        length = context.config.transformer.max_length
        sequences = padded_histories(observed, length, context.seed)
        ranked = transformer.ranked_by(sequences, observed, models.transformer, rows.against, n)
        found["transformer_candidates"] = ranked
    plain = seen.select("user_idx", "items")
    trending = rank_alike(plain.unionByName(audience_rows(plain)), models.trending, _TRENDING, n)
    found["trending_candidates"] = trending.withColumn("fill", F.lit(NONE))
    return found


def _als(rows: Histories, seen: DataFrame, model: AlsModel, n: int) -> DataFrame:
    """Return als_candidates: by vectors that are folded in; of users who are not sparse, with a fill as without."""
    ranked = [als.ranked_by(seen, _vectors(rows, model, NONE), model.scores[NONE], n, NONE).localCheckpoint()]
    sparse = seen.join(rows.sparse, "user_idx", "left_semi")
    for fill in (fill for fill in model.scores if fill != NONE):
        ranked.append(als.ranked_by(sparse, _vectors(rows, model, fill), model.scores[fill], n, fill))
        others = ranked[0].join(rows.sparse, "user_idx", "left_anti").withColumn("fill", F.lit(fill))
        ranked.append(others.select("fill", *_CANDIDATES))
    return reduce(DataFrame.unionByName, ranked)


def _vectors(rows: Histories, model: AlsModel, fill: str) -> DataFrame:
    """Return (user_idx, factors). The run's present stays the present: a younger rating is of age 0."""
    ratings = of_variant(rows.merged, fill).select("user_idx", "item_idx", "rating", "ts")
    weight = model.setting.dislike_weight
    if rows.against is not None and weight:
        against = rows.against.where(F.col("rating").isNotNull())
        if model.objective.implicit:
            against = against.withColumn("rating", F.lit(-weight) * F.lit(model.typical))
        ratings = ratings.unionByName(against)
    present = F.timestamp_micros(F.lit(round(model.latest * 1e6)))
    ratings = ratings.withColumn("ts", F.when(F.col("ts") > present, present).otherwise(F.col("ts")))
    return fold_in_users(weighted(ratings, model.setting, model.latest), model.items[fill], model.objective)
