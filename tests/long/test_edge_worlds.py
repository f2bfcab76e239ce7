"""Whole pipelines on worlds at the edge: each publishes, or refuses with one clear error."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from ganrec_spark.config.sections import Config
from ganrec_spark.lake.store import Lake
from ganrec_spark.run.runner import run_pipeline

RUN = "2026-11-01"
FAST = (
    "generator.kinds=[vae]",
    "generator.epochs=1",
    "generator.min_steps_per_epoch=1",
    "augment.strategies=[{how: top, n: 1}]",
    "augment.rules=[popularity]",
    "gate.finalists=1",
    "gate.bootstrap_samples=100",
    "als.embedding_size=[4]",
    "als.iterations=2",
    "als.regularisation=[0.2]",
    "als.alpha=[0.3, 20.0]",
    "item_item.method=ease",
    "item_item.ease_regularisation=[10.0]",
    "transformer.models=1",
    "transformer.max_epochs=1",
    "transformer.min_steps_per_epoch=1",
    "transformer.validate_every=1",
    "transformer.embedding_size=8",
    "recommend.n=3",
    "publish.min_served_share=0.0",
    "publish.min_metric_ratio=0.0",
)
Rating = tuple[str, str, float, int]


def write(path: Path, ratings: list[Rating]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "rating", "timestamp"])
        writer.writerows(ratings)
    return path


def blocks(n_users: int, lengths: Callable[[int], int], n_items: int = 30) -> list[Rating]:
    """Users of two tastes, each reading a run of neighbouring items of its half of the catalogue."""
    half = n_items // 2
    return [
        (f"u{u}", f"i{(u % 2) * half + (u + step) % half}", 3.0 + step % 3, 1_600_000_000 + 86_400 * step + u)
        for u in range(n_users)
        for step in range(lengths(u))
    ]


def strange(ratings: list[Rating]) -> list[Rating]:
    """Give users ids in Unicode and items ids beyond 2^64."""
    return [(f"{user}-☃-用户", str(2**64 + int(item[1:])), rating, stamp) for user, item, rating, stamp in ratings]


def listed(lake: Lake) -> set[str]:
    users = {row.user_id for row in lake.read("recommendations", RUN).select("user_id").distinct().collect()}
    return users | {row.user_id for row in lake.read("unserved_users", RUN).collect()}


@pytest.mark.parametrize(
    ("name", "ratings", "settings"),
    [
        ("one_user", [("only", f"i{i}", 4.0, 1_600_000_000 + i) for i in range(8)], ()),
        ("one_item", [(f"u{u}", "only", 4.0, 1_600_000_000 + u) for u in range(8)], ()),
        ("no_sparse_users", blocks(24, lambda _: 14), ("sparsity.max_ratings=3",)),
        (
            # Every user sparse, with ids beyond 2^64 and in Unicode, and longer than the padded lists.
            "all_users_sparse",
            strange(blocks(24, lambda u: 4 + u % 4)),
            ("sparsity.max_ratings=10", "parquet.length=3", "transformer.max_length=3"),
        ),
    ],
)
def test_edge_world_runs_to_publication(
    spark: SparkSession,
    make_config: Callable[..., Config],
    tmp_path: Path,
    name: str,
    ratings: list[Rating],
    settings: tuple[str, ...],
) -> None:
    config = make_config(*FAST, *settings, f"ingest.source={write(tmp_path / f'{name}.csv', ratings)}")
    outcomes = {outcome.stage: outcome for outcome in run_pipeline(spark, config, RUN)}
    lake = Lake(spark, config.lake.catalog, config.lake.namespace)
    assert lake.published().run_id == RUN
    assert listed(lake) == {rating[0] for rating in ratings}
    skipped = {stage for stage, outcome in outcomes.items() if outcome.outcome == "skipped"}
    if name in {"no_sparse_users", "one_user"}:
        assert skipped == {"train_generator", "augment_choose", "gate", "augment_final"}
    seen = lake.read("merged_ratings", RUN, "final").select("user_idx", "item_idx")
    assert lake.read("recommendations", RUN).join(seen, ["user_idx", "item_idx"]).isEmpty()
