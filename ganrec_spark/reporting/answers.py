"""What a reader wants to know of a run before anything else: questions, and answers from the run's tables."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganrec_spark.plan.members import NEW_ITEM

Row = Mapping[str, Any]

# recommendations.reason -> why an item is listed, where no item of the history is named.
REASONS = {
    "similar_users": "people like this one",
    "popular": "popular",
    "attributes": "people described like this one",
    NEW_ITEM: "new, and like what this one has rated",
}


def reason_in_words(reason: str, because: str | None) -> str:
    """Return why an item is listed: `reason` and `because_item_id` of a row of recommendations."""
    if because is None:
        return REASONS.get(reason, reason)
    return f"new, and like {because}" if reason == NEW_ITEM else f"because of {because}"


@dataclass(frozen=True)
class Answer:
    """A question with its answer; `tone` is good, bad, odd (look at it) or plain."""

    question: str
    words: str
    tone: str = "plain"


@dataclass(frozen=True)
class Facts:
    """What the answers follow from: rows of the run's tables, by the tables' names."""

    run_id: str
    shown_run: str | None
    shown_since: str
    n_lists: int
    k: int
    metrics: Sequence[Row]
    metrics_before: Sequence[Row]
    run_before: str | None
    decisions: Sequence[Row]
    fill_segments: Sequence[Row]
    published_fill: str
    no_filling: str
    rejected: Mapping[str, int]
    n_ratings: int
    unserved: Mapping[str, int]
    checks: Sequence[Row]
    collapsed: Sequence[str] = ()


def answers(facts: Facts) -> list[Answer]:
    """Return the six questions with their answers."""
    return [
        published(facts),
        over_popularity(facts),
        since_last_time(facts),
        fill(facts),
        refused(facts),
        attention(facts),
    ]


def published(facts: Facts) -> Answer:
    """Say what readers see."""
    question = "What was published?"
    if facts.shown_run == facts.run_id:
        words = f"This run: lists of {facts.n_lists:,} people, which readers see since {facts.shown_since} UTC."
        return Answer(question, words, "good")
    seen = f"readers see run {facts.shown_run}" if facts.shown_run else "readers see nothing yet"
    return Answer(question, f"Not this run: {seen}.", "odd")


def over_popularity(facts: Facts) -> Answer:
    """Compare the published lists with what is popular, by their intervals."""
    question = "Is it better than what is popular?"
    found = _measured(facts.metrics, facts.k)
    if found is None or "popularity" not in found[1] or "blend" not in found[1]:
        return Answer(question, "Not measured: no ratings were held back.", "odd")
    split, values = found
    blend, popular = values["blend"], values["popularity"]
    words = f"NDCG@{facts.k} on {split}: {_interval(blend)}, what is popular {_interval(popular)}."
    if blend["ci_low"] is None or popular["ci_low"] is None:
        return Answer(question, words)
    if blend["ci_low"] > popular["ci_high"]:
        return Answer(question, f"Yes. {words}", "good")
    if blend["ci_high"] < popular["ci_low"]:
        return Answer(question, f"No, worse. {words}", "bad")
    return Answer(question, f"It cannot be told. {words} The intervals touch.", "odd")


def since_last_time(facts: Facts) -> Answer:
    """Compare with the run that was published before."""
    question = "Is it better than last time?"
    if facts.run_before is None:
        return Answer(question, "There was no run before.")
    now, before = (_measured(rows, facts.k) for rows in (facts.metrics, facts.metrics_before))
    if now is None or before is None or "blend" not in now[1] or "blend" not in before[1] or now[0] != before[0]:
        return Answer(question, f"Not measured alike in run {facts.run_before}.", "odd")
    new, old = now[1]["blend"], before[1]["blend"]
    words = (
        f"NDCG@{facts.k} {_interval(new)}, in run {facts.run_before} {_interval(old)}; other ratings were held back."
    )
    if old["ci_low"] is not None and new["ci_low"] is not None:
        if new["ci_low"] > old["ci_high"]:
            return Answer(question, f"Yes. {words}", "good")
        if new["ci_high"] < old["ci_low"]:
            return Answer(question, f"No, worse. {words}", "bad")
    return Answer(question, f"About the same. {words}")


def fill(facts: Facts) -> Answer:
    """Say whether generated ratings changed a list, and for whom."""
    question = "Did filling help, and whom?"
    if not facts.decisions:
        return Answer(question, f"It was not tried: {facts.no_filling}")
    accepted = next((row for row in facts.decisions if row["accepted"] and row["fill"] != "none"), None)
    if accepted is None:
        return Answer(question, "No fill was proven to help sparse users, so none is used.")
    als = _change(accepted["sparse_lift"], accepted["sparse_ci_low"], accepted["sparse_ci_high"])
    words = f"{accepted['fill']} changes sparse users' lists by ALS by {als} on validation"
    sparse = next((row for row in facts.fill_segments if row["segment"] == "sparse"), None)
    if sparse is None:
        return Answer(question, f"{words}.")
    lists = _change(sparse["lift"], sparse["ci_low"], sparse["ci_high"])
    into = "goes into" if facts.published_fill == accepted["fill"] else "stays out of"
    return Answer(question, f"{words}, the blend's by {lists}; it {into} what is published.", "good")


def refused(facts: Facts) -> Answer:
    """Say how many rows and fills were refused, and the reason that is most frequent or nearest to acceptance."""
    question = "What was refused, and why?"
    words = []
    n_rows = sum(facts.rejected.values())
    if n_rows:
        most = max(facts.rejected, key=lambda rule: facts.rejected[rule])
        share = 100 * n_rows / max(1, facts.n_ratings)
        of = f"{share:.1f} for each hundred ratings"
        words.append(f"{n_rows:,} rows ({of}), most by rule {most} ({facts.rejected[most]:,})")
    tried = [row for row in facts.decisions if row["fill"] != "none" and not row["accepted"]]
    if tried:
        best = max(tried, key=lambda row: (row["level"] == "confirm", _known(row["sparse_lift"])))
        words.append(f"{len(tried)} fills; the best of them, {best['fill']}: {best['reason']}")
    return Answer(question, ". ".join(words) + "." if words else "Nothing.")


def attention(facts: Facts) -> Answer:
    """Say what somebody should look at."""
    found = [str(row["message"]) for row in facts.checks if not row["passed"]]
    rejected = sum(facts.rejected.values())
    if rejected > 0.01 * facts.n_ratings:
        found.append("more than one row for each hundred ratings was rejected: see table rejected_ratings")
    found += [f"{name} collapsed: it generates few different items" for name in facts.collapsed]
    n_unserved = sum(facts.unserved.values())
    if n_unserved:
        codes = ", ".join(f"{code} {count:,}" for code, count in sorted(facts.unserved.items()))
        found.append(f"{n_unserved:,} people have no full list ({codes})")
    return Answer("What needs attention?", "; ".join(found) or "Nothing.", "odd" if found else "good")


def _measured(rows: Iterable[Row], k: int) -> tuple[str, dict[str, Row]] | None:
    """Return the split, test where it was measured, and each recommender's NDCG@k over all, the weaker of its fills."""
    own = [row for row in rows if (row["metric"], row["segment"], row["k"]) == ("ndcg", "all", k)]
    for split in ("test", "validation"):
        values: dict[str, Row] = {}
        for row in sorted((row for row in own if row["split"] == split), key=lambda row: -_known(row["value"])):
            values[row["recommender"]] = row
        if values:
            return split, values
    return None


def _known(value: float | None) -> float:
    return -math.inf if value is None else value


def _interval(row: Row) -> str:
    if row["ci_low"] is None:
        return f"{row['value']:.4f}"
    return f"{row['value']:.4f} [{row['ci_low']:.4f}, {row['ci_high']:.4f}]"


def _change(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} % [{100 * low:+.1f}, {100 * high:+.1f}]"
