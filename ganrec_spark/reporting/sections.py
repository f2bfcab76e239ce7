"""The sections of the report: each gets plain rows and returns its figures, with what to see in them, and tables."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from ganrec_spark.blend.variety import MEASURES
from ganrec_spark.evaluation.groups import group_gaps
from ganrec_spark.evaluation.item_groups import RATED
from ganrec_spark.evaluation.segments import BUCKET, in_order
from ganrec_spark.plan.members import BLEND, RECOMMENDERS
from ganrec_spark.plan.table import NONE
from ganrec_spark.reporting import figures
from ganrec_spark.reporting.answers import Row, reason_in_words
from ganrec_spark.reporting.page import Chapter, Id, Words, figure, folded, paragraph, table

_SHARES = ("catalogue_share", "rating_share", "list_share")

# model -> value name -> (epoch, value)
Curves = Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]


def data(
    profile: Row | None,
    users: Mapping[int, int],
    items: Mapping[int, int],
    max_sparse: int,
    rejected: Mapping[str, int],
) -> Chapter:
    """Describe the training matrix; `users` and `items` are number of ratings -> how many have so many."""
    html = figure(
        figures.distributions(users, items, max_sparse),
        "Left: how many people have so many ratings, sparse ones in orange. Right: how fast popularity falls; "
        "the steeper, the more of all ratings go to few items.",
    )
    if profile is not None:
        html += table(("training matrix", ""), [(name, _plain(value)) for name, value in profile.items()])
    if not rejected:
        return Chapter("data", "Data", html + paragraph("No row was rejected."))
    rows = sorted(rejected.items(), key=lambda pair: (-pair[1], pair[0]))
    return Chapter("data", "Data", html + "<h3>Rejected rows</h3>" + table(("rule", "rows"), rows))


def training(histories: Mapping[str, Curves]) -> Chapter:
    """Draw the training curves by title; an empty one was not trained."""
    captions = {
        "Generators": "A generator whose distinct_items fall says the same to everyone.",
        "Transformer, phase choose": "Training stops where validation_ndcg no longer rises.",
        "Transformer, phase final": "The same number of epochs, or fewer from the weights of phase choose.",
    }
    html = ""
    for title, curves in histories.items():
        drawn = (
            figure(figures.training_curves(curves), captions.get(title, "")) if curves else paragraph("Not trained.")
        )
        html += f"<h3>{title}</h3>{drawn}"
    return Chapter("training", "Training", html)


def gate(decisions: Sequence[Row]) -> Chapter:
    """Draw every fill's lift with its interval, best first, and list the verdicts in words."""
    if not decisions:
        return Chapter("gate", "Gate", paragraph("No fill was tried."))
    drawn = [
        (row["fill"], row["level"], bool(row["accepted"]), bounds)
        for row in decisions
        if row["fill"] != "none"
        and (bounds := _finite(row["sparse_lift"], row["sparse_ci_low"], row["sparse_ci_high"])) is not None
    ]
    html = ""
    if drawn:
        html = figure(
            figures.gate_lifts(drawn),
            "A fill helps where its whole line lies to the right of 0. Grey ones were only looked at, blue ones "
            "refused by proof, the green one is used.",
        )
    rows = [(row["fill"], row["level"], row["verdict"], Words(row["reason"] or "")) for row in decisions]
    return Chapter("gate", "Gate", html + table(("fill", "level", "verdict", "reason"), rows))


def quality(metrics: Sequence[Row], weights: Sequence[Row], varieties: Sequence[Row], k: int) -> Chapter:
    """Draw NDCG@k by segment for every recommender, with and without the fill; list the values and the weights.

    `varieties` are rows of table variety_choices, by strength.
    """
    html = ""
    for split in ("test", "validation"):
        chosen = [
            row
            for row in metrics
            if (row["metric"], row["split"], row["k"]) == ("ndcg", split, k) and row["value"] is not None
        ]
        if chosen:
            drawn = figure(
                figures.metric_bars(bars(chosen), in_order(row["segment"] for row in chosen), f"NDCG@{k}"),
                "The blend is what is published. Hatched bars read the accepted fill; whiskers are intervals.",
            )
            html += f"<h3>NDCG@{k} on {split} ratings</h3>{drawn}{_values(chosen)}{_gaps(chosen)}"
    html = html or paragraph("No ratings were held back: nothing was measured.")
    if weights:
        rows = [(row["fill"], row["recommender"], row["weight"], bool(row["published"])) for row in weights]
        html += "<h3>The blend's weights</h3>" + table(("fill", "recommender", "weight", "published"), rows)
    return Chapter("quality", "Quality", html + _variety(varieties))


def _variety(rows: Sequence[Row]) -> str:
    """Tell what was tried for variety and what it costs on validation."""
    if not rows:
        return ""
    chosen, first = next(row for row in rows if row["chosen"]), rows[0]
    method, measured = str(chosen["method"]), MEASURES[str(chosen["method"])]
    words = f"No strength of {method} costs little enough: lists stay as they were."
    if chosen["strength"]:
        words = (
            f"Lists are reordered for {method}: {measured} {first['measured']:.3f} became {chosen['measured']:.3f}. "
            f"NDCG@10 of validation changes by {chosen['ndcg_change']:+.2%}, at least {chosen['ndcg_change_low']:+.2%}."
        )
    changes = ("ndcg_change", "ndcg_change_low", "sparse_ndcg_change")
    cells = [
        (
            f"{row['strength']:g}",
            f"{row['measured']:.3f}",
            f"{row['ndcg']:.4f}",
            *(None if row[name] is None else f"{row[name]:+.2%}" for name in changes),
            bool(row["chosen"]),
        )
        for row in rows
    ]
    head = ("strength", measured, "NDCG@10", "change", "at least", "of sparse users", "chosen")
    title = f"<h3>Variety by {escape(str(chosen['attribute']))}</h3>"
    return title + paragraph(words) + table(head, cells)


def lists(samples: Sequence[tuple[Row, Sequence[Row]]]) -> Chapter:
    """Show a few users' lists with the reason of each item; a sample is the user and the rows of the list, in order."""
    html = ""
    for user, rows in samples:
        cells = [(row["rank"], Id(row["item_id"]), _reason(row), ", ".join(row["members"])) for row in rows]
        name = escape(str(rows[0]["user_id"])) if rows else "?"
        title = f"User {name} ({escape(user_in_words(user))})"
        html += f"<h3>{title}</h3>" + table(("", "item", "reason", "from"), cells)
    return Chapter("lists", "Lists", html or paragraph("No list was made, or report.sample_users is 0."))


def user_in_words(user: Row) -> str:
    """Return what is told of a sampled user beside the id: sparse or dense, how many ratings, the arm."""
    kind = "sparse" if user["is_sparse"] else "dense"
    arm = f", arm {user['arm']}" if "arm" in user else ""
    return f"{kind}, {user['n_ratings']} training ratings{arm}"


def fairness(groups: Sequence[Row]) -> Chapter:
    """Say what groups of items have of lists, catalogue and ratings; `groups` are rows of table item_groups."""
    columns = list(dict.fromkeys(row["column"] for row in groups))
    html = ""
    for column in sorted(columns, key=lambda name: (name != RATED, name)):
        own = sorted((row for row in groups if row["column"] == column), key=lambda row: -row["catalogue_share"])
        if column == RATED:
            html += "".join(paragraph(_newly_listed(row)) for row in own if row["part"] == "no")
            continue
        cells = [
            (row["part"], row["n_items"], *(f"{row[name]:.1%}" for name in _SHARES), row["n_listed"], row["n_users"])
            for row in own
        ]
        head = ("", "items", "of the catalogue", "of ratings", "of lists", "listed at all", "for users")
        drawn = figure(
            figures.group_shares([(str(row["part"]), *(row[name] for name in _SHARES)) for row in own]),
            "Ring: share of the catalogue. Grey: of what people rate. Blue: of lists; left of the grey mark lists have "
            "less of the group than people ask for.",
        )
        html += f"<h3>Items by {escape(column)}</h3>" + drawn + folded("As a table", table(head, cells))
    words = "Nothing is known of items, and all were rated." if columns in ([], [RATED]) and not html else ""
    return Chapter("fairness", "Fairness", html + (paragraph(words) if words else ""))


def _newly_listed(row: Row) -> str:
    listed = f"{row['n_listed']:,} ({row['n_listed'] / row['n_items']:.1%})"
    return (
        f"Of {row['n_items']:,} items that nobody has rated {listed} are listed at least once, to {row['n_users']:,} "
        f"users; they have {row['list_share']:.1%} of all places."
    )


def checks(rows: Sequence[Row]) -> Chapter:
    """List the quality checks that publication depended on, what failed first."""
    ordered = sorted(rows, key=lambda row: (bool(row["passed"]), row["name"]))
    cells = [(row["name"], bool(row["passed"]), row["severity"], Words(row["message"])) for row in ordered]
    return Chapter("checks", "Checks", table(("check", "passed", "else", "found"), cells))


def bars(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, figures.Interval]]:
    """Return (recommender, fill) -> segment -> value and bounds, in the order of RECOMMENDERS."""
    pairs = {(row["recommender"], row["fill"]) for row in rows}
    key = {
        pair: (RECOMMENDERS.index(pair[0]) if pair[0] in RECOMMENDERS else 99, pair[1] != "none", pair[1])
        for pair in pairs
    }
    found: dict[tuple[str, str], dict[str, figures.Interval]] = {
        pair: {} for pair in sorted(pairs, key=key.__getitem__)
    }
    for row in rows:
        low = row["value"] if row["ci_low"] is None else row["ci_low"]
        high = row["value"] if row["ci_high"] is None else row["ci_high"]
        found[row["recommender"], row["fill"]][row["segment"]] = (row["value"], low, high)
    return found


def _gaps(rows: Sequence[Row]) -> str:
    plain = [row for row in rows if (row["recommender"], row["fill"]) == (BLEND, NONE)]
    return "".join(
        paragraph(f"By {gap.column} the blend serves groups apart by {gap.in_words()}.") for gap in group_gaps(plain)
    )


def _values(rows: Sequence[Row]) -> str:
    names, found = in_order(row["segment"] for row in rows), bars(rows)
    buckets = [name for name in names if name.startswith(BUCKET)]
    groups = [name for name in names if ":" in name and name not in buckets]
    first = [name for name in names if name not in (*buckets, *groups)]

    def cells(wanted: Sequence[str]) -> str:
        body = []
        for (recommender, fill), values in found.items():
            texts = ["{:.4f} [{:.4f}, {:.4f}]".format(*values[name]) if name in values else None for name in wanted]
            body.append((recommender, fill, *texts))
        return table(("recommender", "fill", *wanted), body)

    more = (("By number of ratings", buckets), ("By group of users", groups))
    return cells(first) + "".join(folded(title, cells(wanted)) for title, wanted in more if wanted)


def _reason(row: Row) -> object:
    told = reason_in_words(row["reason"], row["because_item_id"])
    return told if row["because_item_id"] is None else Id(told)


def _finite(*values: float | None) -> figures.Interval | None:
    value, low, high = values
    if value is None or low is None or high is None or not all(map(math.isfinite, (value, low, high))):
        return None
    return value, low, high


def _plain(value: object) -> object:
    return Words(value) if isinstance(value, str) else value
