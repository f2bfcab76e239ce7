"""Why a user is listed an item, and why not another one, from the tables that the published run left."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from ganrec_spark.attributes.kinds import CATEGORY, VALUES
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import InputError, LakeError
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.members import ATTRIBUTES, BLEND, MEMBER_NAMES, NEWCOMERS
from ganrec_spark.plan.table import NONE
from ganrec_spark.raw.rules import pseudonym
from ganrec_spark.reporting.answers import reason_in_words

_MOST_SHARED = 3
_RULES = {
    "excluded": "it is excluded for this user (rules.excluded_pairs)",
    "shown": "this user was shown it in vain (rules.shown_times)",
    "blocked": "it is blocked (rules.blocked_items)",
}


@dataclass(frozen=True)
class Listed:
    """What readers see of one user: the run, the rows of the list (rank, item_id, item_idx, reason, ...), best first.

    `refreshed`: whether `ganrec refresh` has made the list since.
    """

    lake: Lake
    run_id: str
    user_idx: int
    rows: Sequence[Row]
    refreshed: bool = False

    def read(self, table: str) -> DataFrame:
        """Return the user's rows of a table of the run, of phase final."""
        return self.lake.read(table, self.run_id, "final").where(F.col("user_idx") == self.user_idx)


def explain(lake: Lake, config: Config, user_id: str, item_ids: Sequence[str]) -> Iterator[str]:
    """Yield lines: the published list of a user, or of each of the items why it stands there, or why it does not.

    Raises LakeError where nothing is published, InputError where the user or an item is not known.
    """
    shown = lake.published()
    if shown.run_id is None:
        raise LakeError("table 'current_run': expected a published run to explain, found none; run `ganrec run` first")
    salt = config.ingest.pseudonym_salt
    user = _index(lake, "user", pseudonym(F.lit(user_id), salt) if salt else F.lit(user_id))
    items = [_index(lake, "item", F.lit(item_id)) for item_id in item_ids]
    rows = lake.spark.table(lake.name("published_recommendations")).where(F.col("user_idx") == user).orderBy("rank")
    overlaid = lake.read_all("refreshed_users").where(F.col("user_idx") == user).select("edition").collect()
    refreshed = bool({row.edition for row in overlaid} & {*shown.overlays})
    listed = Listed(lake, shown.run_id, user, rows.collect(), refreshed)
    yield f"run {shown.run_id}: {len(listed.rows)} items are listed"
    if listed.refreshed:
        yield "  `ganrec refresh` has made the list anew since the run; places below are those of the run"
    if not item_ids:
        yield from (f"{row.rank:3}. {row.item_id}: {reason(row)}" for row in listed.rows)
    for item_id, item in zip(item_ids, items, strict=True):
        yield f"{item_id} {why(listed, item)}"
        yield from (f"  {line}" for line in (*places(listed, item), *in_common(listed, item)))


def reason(row: Row) -> str:
    """Return in words why a row of the list is there."""
    rated = "" if row.because_item_id is None else ", which the user has rated"
    return f"{reason_in_words(row.reason, row.because_item_id)}{rated} (by {', '.join(row.members)})"


def why(listed: Listed, item: int) -> str:
    """Return whether an item is listed, and why, or what keeps it out; the first of what does."""
    for row in listed.rows:
        if row.item_idx == item:
            return f"is at rank {row.rank}: {reason(row)}"
    same = F.col("item_idx") == item
    if not listed.read("merged_ratings").where(same & F.col("observed")).isEmpty():
        return "is not listed: the user has rated it"
    if not listed.read("disliked_ratings").where(same).isEmpty():
        return "is not listed: the user dislikes it"
    rules = listed.lake.read("list_rules", listed.run_id)
    mine = rules.where(F.col("user_idx").isNull() | (F.col("user_idx") == listed.user_idx)).where(same)
    found = {row.rule for row in mine.select("rule").distinct().collect()}
    for rule, told in _RULES.items():
        if rule in found:
            return f"is not listed: {told}"
    if "available" not in found and not rules.where("rule = 'available'").isEmpty():
        return "is not listed: it is not among the available items (rules.available_items)"
    if "category" in found:
        return "is not listed: others come first, or have the places of its category (rules.max_per_category)"
    return "is not listed: others come first"


def places(listed: Listed, item: int) -> Iterator[str]:
    """Yield where each member, or the list by attributes, and the blend of them have the item."""
    weights = listed.lake.read("blend_weights", listed.run_id).where("published").collect()
    fill = weights[0].fill if weights else NONE
    alike = listed.read("strangers_candidates").first()
    if alike is not None:
        yield f"{ATTRIBUTES}: {_place(alike, item)}"
        return
    weight_of = {row.recommender: row.weight for row in weights}
    varied = listed.lake.read("variety_choices", listed.run_id).where("chosen AND strength > 0").first()
    last_word = f", reordered for {varied.method} by {varied.attribute}" if varied else ""
    for name in (*MEMBER_NAMES, BLEND):
        lists = {row.fill: row for row in listed.read(f"{name}_candidates").collect()}
        weight = f", weight {weight_of[name]:.2f}" if name in weight_of else last_word
        yield f"{name}{weight}: {_place(lists.get(fill, lists.get(NONE)), item)}"
    new = listed.read("newcomers_candidates").first()
    if new is not None:
        yield f"{NEWCOMERS}: {_place(new, item)}"


def in_common(listed: Listed, item: int) -> Iterator[str]:
    """Yield what is known of the item and of items that the user has rated: the three values that tell most.

    A value tells more the more of the user's items have it, and the fewer of all.
    """
    columns = listed.lake.read("attribute_columns", listed.run_id)
    usable = columns.where((F.col("role") == "item") & F.col("kind").isin(CATEGORY, VALUES) & ~F.col("sensitive"))
    values = listed.lake.read("item_attributes", listed.run_id).where(F.col("value").isNotNull())
    values = values.join(F.broadcast(usable.select("name")), "name", "left_semi")
    own = values.where(F.col("item_idx") == item).select("name", "value").distinct()
    rated = listed.read("merged_ratings").where(F.col("observed") & (F.col("item_idx") != item)).select("item_idx")
    held = F.count_if("rated").alias("rated"), F.count("*").alias("n")
    marked = rated.distinct().withColumn("rated", F.lit(True))
    shared = values.select("item_idx", "name", "value").distinct().join(F.broadcast(own), ["name", "value"])
    counts = shared.join(F.broadcast(marked), "item_idx", "left").groupBy("name", "value").agg(*held)
    n_items = values.select("item_idx").distinct().count()
    telling = F.col("rated") * F.log(F.lit(n_items + 1.0) / F.col("n"))
    found = counts.where("rated > 0").orderBy(telling.desc(), "name", "value").limit(_MOST_SHARED).collect()
    if found:
        told = ", ".join(f"{row['name']} {row['value']} ({row['rated']})" for row in found)
        yield f"in common with items that the user has rated, {marked.count()} in all: {told}"


def _place(row: Row | None, item: int) -> str:
    if row is None or not row["items"]:
        return "has no list for this user"
    items = list(row["items"])
    return f"place {items.index(item) + 1} of {len(items)}" if item in items else f"not among its first {len(items)}"


def _index(lake: Lake, role: str, wanted: Column) -> int:
    row = lake.read_all(f"{role}s").where(F.col(f"{role}_id") == wanted).select(f"{role}_idx").first()
    if row is None:
        raise InputError(f"table '{role}s': expected the {role} that was asked for, found none with that id")
    return int(row[0])
