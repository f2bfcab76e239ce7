"""What may be set, typed and strict: the sections that an operator decides, and all of them together.

Keys are explained, with units, in conf/default.yaml (what an operator decides) and conf/models.yaml (what a data
scientist tunes); a test keeps these files and the defaults here equal.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ganrec_spark.config.cluster import Distributed, Spark
from ganrec_spark.config.learning import Learn
from ganrec_spark.config.lists import Experiment, Explore, Rules
from ganrec_spark.config.models import (
    Als,
    Augment,
    Generator,
    ItemItem,
    Merge,
    Newcomers,
    Parquet,
    Recommend,
    Strangers,
    Transformer,
    Trending,
)
from ganrec_spark.config.types import Count, Names, Positive, Section, Share


class Run(Section):
    seed: Annotated[int, Field(ge=0)] = 42
    as_of: datetime | None = None


class LakeConfig(Section):
    root: Annotated[str, Field(min_length=1)] = "lake"
    catalog: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "lake"
    namespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "ganrec"
    properties: dict[str, str] = {
        "type": "jdbc",
        "uri": "jdbc:sqlite:file:{root}/catalog.db?journal_mode=WAL&busy_timeout=60000",
        "jdbc.schema-version": "V1",
        "warehouse": "{root}/warehouse",
    }
    wait_seconds: Annotated[float, Field(ge=0)] = 180.0


_Column = Annotated[str, Field(min_length=1)] | Count


class Columns(Section):
    user: _Column = "user_id"
    item: _Column = "item_id"
    rating: _Column | None = "rating"
    timestamp: _Column | None = "timestamp"
    event: _Column | None = None


AttributeKind = Literal["category", "values", "number", "date", "text", "vector", "none"]


class Ingest(Section):
    source: str | None = None
    test_source: str | None = None
    format: Literal["auto", "csv", "tsv", "movielens", "json", "parquet", "table"] = "auto"
    delimiter: Annotated[str, Field(min_length=1)] | None = None
    encoding: Annotated[str, Field(min_length=1)] | None = None
    quote: Literal["auto", '"', "none"] = "auto"
    header: bool = True
    columns: Columns = Columns()
    feedback: Literal["explicit", "implicit"] = "explicit"
    event_weights: dict[str, Annotated[float, Field(ge=0)]] = {"view": 1.0, "click": 2.0, "cart": 3.0, "purchase": 5.0}
    rating_min: float = 0.0
    rating_max: float = 1000.0
    unrated: float | None = None
    liked_from: float | Literal["auto"] | None = "auto"
    decimal: Literal[".", ","] = "."
    timestamp_unit: Literal["auto", "s", "ms", "iso"] = "auto"
    timestamp_format: Annotated[str, Field(min_length=1)] | None = None
    tie_order: Literal["random", "source"] = "random"
    pseudonym_salt: Annotated[str, Field(min_length=1)] | None = None
    users_source: Names = ()
    items_source: Names = ()
    other_ratings: dict[str, str] = {}
    user_columns: dict[str, AttributeKind] = {}
    item_columns: dict[str, AttributeKind] = {}
    sensitive: tuple[str, ...] = ()
    max_rejected_share: Share = 0.05

    @model_validator(mode="after")
    def _range(self) -> "Ingest":
        if self.rating_min >= self.rating_max:
            raise ValueError(f"rating_min {self.rating_min} must be below rating_max {self.rating_max}")
        return self

    @model_validator(mode="after")
    def _ordered(self) -> "Ingest":
        if self.tie_order == "source" and self.format == "table":
            raise ValueError("tie_order 'source' needs files: the rows of a table have no order")
        return self


class EventColumns(Section):
    user: _Column = "user_id"
    item: _Column = "item_id"
    kind: _Column = "kind"
    timestamp: _Column = "timestamp"
    event_id: _Column | None = "event_id"
    value: _Column | None = "value"
    edition: _Column | None = "edition"
    rank: _Column | None = "rank"


class Feedback(Section):
    columns: EventColumns = EventColumns()
    kinds: dict[Annotated[str, Field(min_length=1)], float] = {
        "impression": 0.0,
        "click": 2.0,
        "cart": 3.0,
        "purchase": 5.0,
        "rating": 1.0,
        "dislike": -1.0,
        "hide": -1.0,
    }
    watermark_days: Positive = 7.0
    timestamp_unit: Literal["auto", "s", "ms", "iso"] = "auto"
    timestamp_format: Annotated[str, Field(min_length=1)] | None = None
    as_ratings: bool = False


class Stream(Section):
    trigger_seconds: Annotated[float, Field(ge=0)] = 10.0
    max_messages: Count = 100_000
    max_files: Count = 100
    wait_seconds: Positive = 300.0
    options: dict[str, str] = {}
    packages: tuple[str, ...] = (
        "org.apache.spark:spark-sql-kafka-0-10_2.13:4.0.0",
        "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.0.0",
        "org.apache.kafka:kafka-clients:3.9.0",
        "org.apache.commons:commons-pool2:2.12.0",
    )


class Split(Section):
    protocol: Literal["leave_last_out", "temporal", "ratio", "given", "cold_users", "cold_items", "none"] = (
        "leave_last_out"
    )
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    min_ratings: Annotated[int, Field(ge=3)] = 3

    @model_validator(mode="after")
    def _sum(self) -> "Split":
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share + test_share must leave a share for training")
        return self


class Sparsity(Section):
    max_ratings: Annotated[int, Field(ge=0)] = 10
    bucket_edges: tuple[Count, ...] = (5, 10, 20, 50)
    min_sparse_users: Count = 10
    group_by: Names = ()

    @model_validator(mode="after")
    def _ascending(self) -> "Sparsity":
        if list(self.bucket_edges) != sorted(set(self.bucket_edges)):
            raise ValueError(f"bucket_edges {list(self.bucket_edges)} must ascend")
        if "bucket" in self.group_by:
            raise ValueError("group_by cannot have a column 'bucket': buckets of ratings are called so")
        return self


class Gate(Section):
    k: Count = 10
    bootstrap_samples: Annotated[int, Field(ge=100)] = 1000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    tolerance: Share = 0.005
    min_coverage_ratio: Share = 0.5
    min_validation_users: Count = 50
    min_bucket_users: Count = 300
    screen_users: Count = 5000
    finalists: Count = 2
    cooldown_runs: Annotated[int, Field(ge=0)] = 7


class Evaluate(Section):
    ks: tuple[Count, ...] = (5, 10, 20)
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class Publish(Section):
    min_served_share: Share = 0.99
    min_catalogue_coverage: Share = 0.0
    metric_k: Count = 10
    min_metric_ratio: Share = 0.8
    min_lift_over_popularity: Annotated[float, Field(ge=0)] = 0.0
    min_volume_ratio: Share = 0.5
    max_group_gap: Annotated[float, Field(gt=0, le=1)] | None = None
    keep_editions: Annotated[int, Field(ge=2)] = 10
    keep_exposures_days: Count = 30


class Report(Section):
    sample_users: Count = 3


class Refresh(Section):
    compact_after: Count = 20


class WarmStart(Section):
    when: Literal["never", "decided", "always"] = "never"


class Config(Section):
    """The whole configuration of a run."""

    run: Run = Run()
    lake: LakeConfig = LakeConfig()
    spark: Spark = Spark()
    distributed: Distributed = Distributed()
    ingest: Ingest = Ingest()
    feedback: Feedback = Feedback()
    stream: Stream = Stream()
    split: Split = Split()
    sparsity: Sparsity = Sparsity()
    warm_start: WarmStart = WarmStart()
    parquet: Parquet = Parquet()
    generator: Generator = Generator()
    augment: Augment = Augment()
    gate: Gate = Gate()
    merge: Merge = Merge()
    trending: Trending = Trending()
    strangers: Strangers = Strangers()
    newcomers: Newcomers = Newcomers()
    als: Als = Als()
    item_item: ItemItem = ItemItem()
    transformer: Transformer = Transformer()
    recommend: Recommend = Recommend()
    rules: Rules = Rules()
    experiment: Experiment = Experiment()
    explore: Explore = Explore()
    evaluate: Evaluate = Evaluate()
    publish: Publish = Publish()
    refresh: Refresh = Refresh()
    learn: Learn = Learn()
    report: Report = Report()

    @model_validator(mode="after")
    def _across(self) -> "Config":
        if self.split.protocol == "given" and not self.ingest.test_source:
            raise ValueError("split.protocol=given needs ingest.test_source")
        if max(self.evaluate.ks) > self.recommend.n_candidates:
            raise ValueError("recommend.n_candidates must be at least the largest of evaluate.ks")
        if self.publish.keep_exposures_days < self.feedback.watermark_days:
            raise ValueError("publish.keep_exposures_days must be at least feedback.watermark_days: events may be late")
        self._explorable()
        return self

    def _explorable(self) -> None:
        slots, least = self.explore.slots, self.explore.min_propensity
        new, n = self.recommend.new_item_slots, self.recommend.n
        if slots + new > n:
            raise ValueError(f"explore.slots {slots} and new_item_slots {new} must not exceed recommend.n {n} together")
        pool = self.recommend.n_candidates - n + slots
        if slots and pool * least > 1:
            told = f"explore.min_propensity {least:g} for each of {pool} items that may be drawn sums to more than 1"
            raise ValueError(f"{told}; set at most {1 / pool:.4f}")
