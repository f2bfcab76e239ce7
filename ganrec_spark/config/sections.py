"""What may be set: typed, strict, frozen sections.

Keys are explained, with units, in conf/default.yaml; a test keeps that file and these defaults equal.
"""

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ganrec_spark.plan.members import FILL_RULES, in_words

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
_T = TypeVar("_T")
Choices = Annotated[tuple[_T, ...], Field(min_length=1)]


class Section(BaseModel):
    """Base of every section: immutable, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Run(Section):
    seed: Annotated[int, Field(ge=0)] = 42


class LakeConfig(Section):
    root: Annotated[str, Field(min_length=1)] = "lake"
    catalog: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "lake"
    namespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "ganrec"
    properties: dict[str, str] = {
        "type": "jdbc",
        "uri": "jdbc:sqlite:file:{root}/catalog.db?journal_mode=WAL&busy_timeout=30000",
        "jdbc.schema-version": "V1",
        "warehouse": "{root}/warehouse",
    }
    wait_seconds: Annotated[float, Field(ge=0)] = 180.0


class Profiles(Section):
    sql: dict[str, str] = {}
    training: dict[str, str] = {"spark.dynamicAllocation.enabled": "false"}
    scoring: dict[str, str] = {}


class Spark(Section):
    master: str | None = None
    packages: tuple[str, ...] = (
        "org.apache.iceberg:iceberg-spark-runtime-4.0_2.13:1.11.0",
        "org.xerial:sqlite-jdbc:3.53.1.0",
        "org.postgresql:postgresql:42.7.8",
    )
    jars: tuple[str, ...] = ()
    driver_memory: Annotated[str, Field(pattern=r"^\d+[mg]$")] = "3g"
    shuffle_partitions: Count = 4
    python: str | None = None
    py_files: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    properties: dict[str, str] = {}
    profiles: Profiles = Profiles()


class Distributed(Section):
    workers: Count = 2
    start_timeout_seconds: Count = 120
    stall_timeout_seconds: Count = 600
    threads_per_worker: Annotated[int, Field(ge=0)] = 0


_Column = Annotated[str, Field(min_length=1)] | Count


class Columns(Section):
    user: _Column = "user_id"
    item: _Column = "item_id"
    rating: _Column | None = "rating"
    timestamp: _Column | None = "timestamp"
    event: _Column | None = None


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


class Split(Section):
    protocol: Literal["leave_last_out", "temporal", "ratio", "given", "none"] = "leave_last_out"
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

    @model_validator(mode="after")
    def _ascending(self) -> "Sparsity":
        if list(self.bucket_edges) != sorted(set(self.bucket_edges)):
            raise ValueError(f"bucket_edges {list(self.bucket_edges)} must ascend")
        return self


class Partition(Section):
    length: Count = 200
    row_groups: Count = 8
    max_rows_per_group: Count = 20_000


class Generator(Section):
    kinds: tuple[Literal["agn", "vae", "cgan", "cgan_twin"], ...] = ("vae", "agn", "cgan")
    epochs: Count = 10
    patience: Count = 3
    min_steps_per_epoch: Count = 20
    batch_size: Count = 256
    learning_rate: Positive = 0.003
    gradient_clip: Positive = 5.0
    negatives: Count = 512
    agn_noise_size: Count = 100
    agn_epochs: Count = 1
    vae_latent_size: Count = 64
    vae_hidden_size: Count = 256
    vae_beta: Annotated[float, Field(ge=0)] = 0.2
    cgan_embedding_size: Count = 64
    cgan_noise_size: Count = 16
    cgan_profile_length: Count = 3
    cgan_profile_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    cgan_critic_weight: Annotated[float, Field(ge=0)] = 0.1
    history_half_life: Choices[Positive | None] = (4.0, None, 16.0, 1.0)
    collapse_min_distinct_share: Share = 0.05


class Strategy(Section):
    how: Literal["top", "sample"]
    n: Count
    preference: Annotated[float, Field(gt=0, le=1)] = 1.0


def _fill_rule(name: str) -> str:
    if name not in FILL_RULES:
        raise ValueError(f"expected {in_words(FILL_RULES)}")
    return name


class Augment(Section):
    strategies: tuple[Strategy, ...] = (
        Strategy(how="top", n=1),
        Strategy(how="top", n=3),
        Strategy(how="top", n=10),
        Strategy(how="sample", n=5),
    )
    rules: tuple[Annotated[str, AfterValidator(_fill_rule)], ...] = FILL_RULES
    temperature: Positive = 1.0

    @model_validator(mode="after")
    def _distinct(self) -> "Augment":
        named = [(strategy.how, strategy.n, round(100 * strategy.preference)) for strategy in self.strategies]
        if len(set(named)) < len(named):
            raise ValueError("strategies must differ in how, n or preference, that in whole per cent")
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


class Merge(Section):
    fill_weight: Positive = 0.3


class Trending(Section):
    half_life_days: tuple[Positive, ...] = (3.0, 7.0, 14.0, 30.0, 90.0, 365.0)


class Als(Section):
    solver: Literal["auto", "numpy", "mllib"] = "auto"
    max_gathered_gib: Positive = 0.8
    implicit: bool = True
    embedding_size: Choices[Count] = (128, 256)
    max_embedding_size: Count = 512
    iterations: Count = 8
    search_iterations: Count = 5
    regularisation: Choices[Positive] = (0.2, 0.4)
    alpha: Choices[Positive] = (0.3, 20.0)
    rating_scale: Choices[Literal["raw", "log"]] = ("raw", "log")
    half_life_days: Choices[Positive | None] = (None, 365.0)
    dislike_weight: Choices[Annotated[float, Field(ge=0)]] = (0.0, 1.0)


class ItemItem(Section):
    method: Literal["auto", "ease", "rp3beta", "gfcf"] = "auto"
    max_exact_items: Count = 15_000
    max_graph_items: Count = 100_000
    ease_regularisation: tuple[Positive, ...] = (100.0, 400.0)
    rp3_alpha: Positive = 0.7
    rp3_beta: tuple[Annotated[float, Field(ge=0)], ...] = (0.2, 0.5)
    gfcf_rank: Count = 256
    gfcf_weight: tuple[Annotated[float, Field(ge=0)], ...] = (0.3, 1.0)
    mix_shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.25, 0.5)
    history_half_life: Choices[Positive | None] = (None, 8.0, 2.0)
    rating_slope: Choices[Annotated[float, Field(ge=0, lt=0.5)]] = (0.0, 0.2)
    ease_damping: Choices[Annotated[float, Field(ge=0, le=1)]] = (0.0, 0.2)
    pair_half_life: Choices[Positive | None] = (None, 10.0)
    neighbours: Count = 200
    stored_neighbours: Count = 50


_AUTO_SIZES, _MANY_RATINGS = (64, 128), 500_000


class Transformer(Section):
    max_length: Count = 200
    embedding_size: Count | Literal["auto"] = "auto"
    head_size: Count = 64
    blocks: Count = 1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    learning_rate: Positive = 0.004
    models: Count = 2
    batch_size: Count = 128
    batch_ratings: Count = 4096
    negatives: Count = 1024
    gradient_clip: Positive = 5.0
    averaging: Annotated[float, Field(ge=0)] = 2.0
    adversary_radius: Choices[Annotated[float, Field(ge=0)]] = (0.0, 0.05)
    min_steps_per_epoch: Count = 50
    max_epochs: Count = 100
    continue_up_to: Share = 0.03
    continue_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    validate_every: Count = 3
    patience: Count = 3
    min_gain: Annotated[float, Field(ge=0)] = 0.01
    validation_users: Count = 5000

    @model_validator(mode="after")
    def _equal_heads(self) -> "Transformer":
        for size in self.sizes:
            if size % self.heads(size):
                raise ValueError(
                    f"embedding_size {size} must be a multiple of {self.heads(size)}, the fewest heads of at most "
                    f"head_size {self.head_size}"
                )
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """What embedding_size may be; where it is auto, with few training ratings and with many."""
        return _AUTO_SIZES if self.embedding_size == "auto" else (self.embedding_size,)

    def size(self, n_ratings: int) -> int:
        """Return the embedding size for so many training ratings (docs/adr/0026)."""
        return self.sizes[-1] if n_ratings >= _MANY_RATINGS else self.sizes[0]

    def heads(self, size: int) -> int:
        """Return the number of attention heads of an embedding size: the fewest of at most head_size."""
        return -(-size // self.head_size)


class Recommend(Section):
    n: Count = 10
    n_candidates: Annotated[int, Field(ge=20)] = 100
    fusion: Choices[Literal["ranks", "scores"]] = ("ranks", "scores")
    fusion_constant: Positive = 30.0
    weight_step: Annotated[float, Field(ge=0.05, le=0.5)] = 0.1
    weight_users: Count = 10_000
    reranker: Literal["auto", "none"] = "auto"
    rerank_depth: Annotated[int, Field(ge=10)] = 30
    rerank_trees: Count = 100
    rerank_users: Count = 50_000
    rerank_min_hits: Count = 200
    available_items: str | None = None
    blocked_items: str | None = None

    @model_validator(mode="after")
    def _candidates(self) -> "Recommend":
        if self.n > self.n_candidates:
            raise ValueError(f"n {self.n} must not exceed n_candidates {self.n_candidates}")
        return self


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
    keep_editions: Annotated[int, Field(ge=2)] = 10


class Report(Section):
    sample_users: Count = 3


class Config(Section):
    """The whole configuration of a run."""

    run: Run = Run()
    lake: LakeConfig = LakeConfig()
    spark: Spark = Spark()
    distributed: Distributed = Distributed()
    ingest: Ingest = Ingest()
    split: Split = Split()
    sparsity: Sparsity = Sparsity()
    partition: Partition = Partition()
    generator: Generator = Generator()
    augment: Augment = Augment()
    gate: Gate = Gate()
    merge: Merge = Merge()
    trending: Trending = Trending()
    als: Als = Als()
    item_item: ItemItem = ItemItem()
    transformer: Transformer = Transformer()
    recommend: Recommend = Recommend()
    evaluate: Evaluate = Evaluate()
    publish: Publish = Publish()
    report: Report = Report()

    @model_validator(mode="after")
    def _across(self) -> "Config":
        if self.split.protocol == "given" and not self.ingest.test_source:
            raise ValueError("split.protocol=given needs ingest.test_source")
        if not self.als.implicit and any(strategy.preference < 1 for strategy in self.augment.strategies):
            raise ValueError(
                "augment.strategies: preference below 1 needs als.implicit; explicit ALS has no preferences"
            )
        if max(self.evaluate.ks) > self.recommend.n_candidates:
            raise ValueError("recommend.n_candidates must be at least the largest of evaluate.ks")
        return self
