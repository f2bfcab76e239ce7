"""What became of the rows: how many broke which rule, what they look like, and which key would take them."""

import re
from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config.sections import Ingest
from ganrec_spark.errors import InputError
from ganrec_spark.raw.guesses import FEW
from ganrec_spark.raw.rules import IGNORED

_COMMON = 0.01
_EXAMPLES = 100
# What people write in place of a number or a time; any other word may be somebody's name.
_SAID = (
    "none null nan nat na inf unknown missing never soon now today many few good bad like dislike yes no true false "
    "star stars jan feb mar apr may jun jul aug sep oct nov dec mon tue wed thu fri sat sun utc gmt t z am pm"
)
_WORDS = set(_SAID.split())
Counts = dict[tuple[str, str | None], int]  # (origin, rule) -> rows; rule None: valid
# What takes rows of a rule, or what to do about them. Examples are how values look, for some may be ids.
_KEYS = {
    "bad_rating": "see ingest.decimal, which is not for commas between thousands, and ingest.columns.rating",
    "bad_time": "say how times are written in ingest.timestamp_format, or set ingest.columns.timestamp to null",
    "malformed_row": "lines have another number of values than the file has columns; see ingest.delimiter and quote",
    "bad_encoding": "the file is no UTF-8; say what it is in ingest.encoding (latin-1, cp1252, ...)",
    "inexact_id": "ids came as floating-point numbers too large to be exact; write them as text or whole numbers",
    "exact_duplicate": "the same rows are there more than once; what may happen twice, as purchases, is for "
    "ingest.feedback=implicit, where times that are whole days or none at all make each row count",
    "missing_id": "see ingest.columns.user and item",
}


def count_rules(checked: DataFrame) -> Counts:
    """Return the number of rows per (origin, rule); rule None counts the valid ones."""
    rows = checked.groupBy("origin", "rule").count().collect()
    return {(row["origin"], row["rule"]): row["count"] for row in rows}


def rejected_rows(checked: DataFrame) -> DataFrame:
    """Return (rule, file, row) of the rows that broke a rule; those that the settings ignore are counted alone."""
    broken = F.col("rule").isNotNull() & ~F.col("rule").isin(*IGNORED)
    return checked.where(broken).select("rule", "file", "row")


def common_rules(counts: Counts) -> list[str]:
    """Return the rules that more than one row in a hundred broke, and unknown_event always, most frequent first."""
    totals, read = by_rule(counts), sum(counts.values())
    often = [rule for rule, count in totals.items() if count > _COMMON * read or rule == "unknown_event"]
    return sorted((rule for rule in often if rule not in IGNORED), key=lambda rule: -totals[rule])


def advice_on(checked: DataFrame, rule: str, ingest: Ingest) -> str:
    """Return what rows of a rule look like, and the key that would take them; nothing where there is none."""
    rows = checked.where(F.col("rule") == rule)
    if rule == "unknown_event":
        return _on_kinds(checked, rows)
    if rule == "rating_out_of_range":
        low, high = rows.agg(F.min("rating"), F.max("rating")).collect()[0]
        return (
            f"ratings from {low:g} to {high:g} are outside ingest.rating_min {ingest.rating_min:g} and rating_max "
            f"{ingest.rating_max:g}; widen them, and where low ratings mean dislike set ingest.liked_from, too"
        )
    if rule == "conflicting_duplicate":
        return "several ratings of one user and item: ingest.feedback=implicit adds them up, explicit keeps the newest"
    if rule == "future_time":
        newest = rows.agg(F.max("ts").cast("string")).collect()[0][0]  # Python has no year 10000
        return f"times up to {newest} UTC lie after the run's date"
    if rule in ("bad_rating", "bad_time"):
        # Where no row is valid the column may be the wrong one, and its values ids.
        if checked.where(F.col("rule").isNull()).isEmpty():
            return f"{rule}: {_KEYS[rule]}"
        column = "raw_rating" if rule == "bad_rating" else "raw_time"
        values = rows.select(F.col(column).alias("value")).distinct().orderBy("value").limit(_EXAMPLES).collect()
        shapes = list(dict.fromkeys(shape(row["value"]) for row in values))
        return f"{rule}: {', '.join(shapes[:3])}; {_KEYS[rule]}"
    return f"{rule}: {_KEYS[rule]}" if rule in _KEYS else ""


def shape(value: str | None) -> str:
    """Return how a value looks, which tells nobody's id: digits as 9, letters as a but for a few common words."""
    if value is None:
        return "none at all"
    words = re.sub(r"[^\W\d_]+", lambda word: word[0] if word[0].lower() in _WORDS else "a" * len(word[0]), value)
    return repr(re.sub(r"[^\x20-\x7e]", "a", re.sub(r"\d", "9", words)))


def _on_kinds(checked: DataFrame, rows: DataFrame) -> str:
    """Return advice on unknown kinds of events; they are named unless they may be ids of another column."""
    kinds = rows.groupBy("event").count().orderBy(F.desc("count"), "event").limit(FEW + 1).collect()
    names = [str(row["event"]) for row in kinds]
    if len(names) > FEW or 2 * len(names) >= checked.count() or any("@" in name for name in names):
        different = rows.agg(F.count_distinct("event")).collect()[0][0]
        return (
            f"unknown events: {different} different ones, so that ingest.columns.event may not be the column with the "
            "kinds of events; name another, or give each kind a weight (ingest.event_weights.NAME)"
        )
    found = ", ".join(f"'{row['event']}' {row['count']}" for row in kinds[:5])
    return f"unknown events: {found}; give them a weight (ingest.event_weights.NAME), 0 to leave them out"


def check_counts(counts: Counts, ingest: Ingest, run_id: str, advice: Sequence[str] = ()) -> None:
    """Raise InputError where a source has no rows, no valid rows, or more rejects than ingest.max_rejected_share.

    Every rule counts, exact duplicates too: a file that was delivered twice should not pass unseen. What the settings
    ignore is no reject.
    """
    hints = "".join(f". {line[0].upper()}{line[1:]}" for line in advice)
    for origin in ("source", "test_source"):
        name = getattr(ingest, origin)
        total = sum(count for (where, _), count in counts.items() if where == origin)
        if name and not total:
            raise InputError(f"ingest.{origin} '{name}': expected ratings, found no rows; check the delivery")
        if name and not counts.get((origin, None)):
            ignored = per_rule(counts, ignored=True)
            also = f", or ignored ({ignored}: see --run-date, ingest.unrated and event_weights)" if ignored else ""
            raise InputError(
                f"ingest.{origin} '{name}': all {total} rows were rejected ({per_rule(counts) or 'none'}){also}; "
                f"{_where_rejected(run_id)}{hints}"
            )
    rejected = sum(count for (_, rule), count in counts.items() if rule and rule not in IGNORED)
    read = sum(counts.values())
    if rejected > ingest.max_rejected_share * read:
        raise InputError(
            f"ingest.source '{ingest.source}': {rejected} of {read} rows ({rejected / read:.1%}) were rejected, "
            f"allowed are {ingest.max_rejected_share:.1%}: {per_rule(counts)}; {_where_rejected(run_id)}, "
            "then correct the source or the settings; ingest.max_rejected_share is how many rows you can do "
            f"without{hints}"
        )


def by_rule(counts: Counts) -> dict[str, int]:
    """Return the number of rows by broken rule, of all sources."""
    totals: dict[str, int] = {}
    for (_, rule), count in counts.items():
        if rule:
            totals[rule] = totals.get(rule, 0) + count
    return totals


def per_rule(counts: Counts, ignored: bool = False) -> str:
    """Return the rules with their numbers of rows in words, most frequent first: rejects, or what is ignored."""
    totals = {rule: count for rule, count in by_rule(counts).items() if (rule in IGNORED) == ignored}
    return ", ".join(f"{rule} {count}" for rule, count in sorted(totals.items(), key=lambda pair: (-pair[1], pair[0])))


def counts_in_words(counts: Counts, n_ratings: int, new_users: int, new_items: int) -> str:
    """Return how many rows were read, and what became of them."""
    read, valid = sum(counts.values()), sum(count for (_, rule), count in counts.items() if rule is None)
    parts = [f"{read} rows read, {n_ratings} ratings"]
    if valid > n_ratings:
        parts.append(f"{valid - n_ratings} events merged into others of the same user and item")
    ignored = sum(count for rule, count in by_rule(counts).items() if rule in IGNORED)
    rejected = read - valid - ignored
    parts.append(f"{rejected} rejected" + (f" ({per_rule(counts)})" if rejected else ""))
    if ignored:
        parts.append(f"{ignored} ignored ({per_rule(counts, ignored=True)})")
    parts.append(f"{new_users} new users, {new_items} new items")
    return ", ".join(parts)


def _where_rejected(run_id: str) -> str:
    return f"look at table rejected_ratings where run_id = '{run_id}'"
