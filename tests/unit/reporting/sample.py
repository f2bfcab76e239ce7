"""A run as the report gets it: plain rows, ids that somebody meant ill with among them."""

from typing import Any

from ganrec_spark.reporting import sections
from ganrec_spark.reporting.answers import Facts, answers
from ganrec_spark.reporting.page import page

HOSTILE = "<script>document.title='owned'</script>&\"'$x_1$]]>" + "long" * 60


def metric(recommender: str, fill: str, value: float, split: str = "test", segment: str = "all") -> dict[str, Any]:
    bounds = {"ci_low": value - 0.01, "ci_high": value + 0.01}
    row = {"recommender": recommender, "fill": fill, "split": split, "segment": segment, "metric": "ndcg", "k": 10}
    return {**row, "value": value, **bounds, "n_users": 100}


def decision(fill: str, lift: float, accepted: bool = False, level: str = "screen") -> dict[str, Any]:
    bounds = {"sparse_lift": lift, "sparse_ci_low": lift - 0.04, "sparse_ci_high": lift + 0.04}
    verdict = "accepted" if accepted else "interval_includes_zero"
    words = f"sparse users {lift:+.1%}"
    return {"fill": fill, "level": level, "verdict": verdict, "accepted": accepted, "reason": words, **bounds}


METRICS = [
    metric(name, fill, value + shift, split, segment)
    for name, fill, value in (
        ("popularity", "none", 0.12),
        ("als", "none", 0.2),
        ("als", "vae_top1", 0.23),
        ("blend", "none", 0.38),
    )
    for split in ("validation", "test")
    for segment, shift in (
        ("all", 0.0),
        ("sparse", -0.05),
        ("dense", 0.05),
        ("cold", -0.1),
        ("bucket:6-10", 0.02),
        ("bucket:1-5", 0.01),
        ("gender:F", 0.03),
        ("gender:<b>M", -0.02),
    )
]
DECISIONS = [
    decision("vae_top1", 0.194, accepted=True, level="confirm"),
    decision("cgan_top3", 0.03, level="confirm"),
    decision("agn_top1", -0.1),
]
CHECK = {"name": "short_lists", "passed": True, "severity": "refuse", "message": "short_lists: 0 users"}
VARIETIES = [
    {
        "method": "calibration",
        "attribute": HOSTILE,
        "strength": strength,
        "n_users": 900,
        "ndcg": ndcg,
        "ndcg_change": change,
        "ndcg_change_low": change - 0.002,
        "sparse_ndcg_change": sparse,
        "measured": measured,
        "chosen": strength == 0.3,
    }
    for strength, ndcg, change, sparse, measured in (
        (0.0, 0.12, 0.0, 0.0, 0.9),
        (0.3, 0.1194, -0.005, None, 0.4),
        (0.6, 0.11, -0.08, -0.1, 0.2),
    )
]
GROUPS = [
    {
        "column": "genre",
        "part": part,
        "n_items": 100,
        "n_listed": 50,
        "n_users": 900,
        "catalogue_share": catalogue,
        "rating_share": rated,
        "list_share": listed,
    }
    for part, catalogue, rated, listed in (
        ("drama", 0.6, 0.5, 0.4),
        (HOSTILE, 0.3, 0.3, 0.5),
        ("(none)", 0.1, 0.2, 0.1),
    )
]
FACTS = Facts(
    run_id="2026-11-01",
    shown_run="2026-11-01",
    shown_since="2026-11-01 04:12",
    n_lists=3000,
    k=10,
    metrics=METRICS,
    metrics_before=[metric("blend", "none", 0.375)],
    run_before="2026-10-31",
    decisions=DECISIONS,
    fill_segments=[{"fill": "vae_top1", "segment": "sparse", "lift": 0.01, "ci_low": 0.002, "ci_high": 0.02}],
    published_fill="vae_top1",
    no_filling="",
    rejected={},
    n_ratings=42_368,
    unserved={},
    checks=[CHECK],
)


def report(facts: Facts = FACTS) -> str:
    listed = {
        "user_id": HOSTILE,
        "item_id": HOSTILE,
        "members": ["als"],
        "reason": "history",
        "because_item_id": HOSTILE,
    }
    samples = [({"is_sparse": True, "n_ratings": 4}, [{**listed, "rank": rank} for rank in range(1, 4)])]
    curve = {"loss": {"vae": [(1, 2.0), (2, 1.0)]}}
    weights = [{"fill": "none", "recommender": "als", "weight": 1.0, "published": True}]
    parts = [
        sections.quality(facts.metrics, weights, VARIETIES, facts.k),
        sections.gate(facts.decisions),
        sections.lists(samples),
        sections.fairness(GROUPS),
        sections.data({"n_users": 3000, "reason": HOSTILE}, {1: 5, 7: 2}, {3: 4}, 5, facts.rejected),
        sections.training({"Generators": curve, "Transformer, phase choose": {}, "Transformer, phase final": {}}),
        sections.checks(facts.checks),
    ]
    return page(facts.run_id, answers(facts), parts)
