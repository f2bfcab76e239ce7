"""What a data scientist tunes: generators, recommenders, how lists are blended. Explained in conf/models.yaml."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ganrec_spark.config.types import Choices, Count, Positive, Section, Share
from ganrec_spark.plan.members import FILL_RULES, in_words


class Parquet(Section):
    length: Count = 200
    row_groups: Count = 8
    max_rows_per_group: Count = 20_000


class Generator(Section):
    kinds: tuple[Literal["agn", "vae", "cgan"], ...] = ("vae", "cgan")
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
    history_half_life_visits: Choices[Positive | None] = (4.0, None, 16.0, 1.0)
    collapse_min_distinct_share: Share = 0.05


class Strategy(Section):
    how: Literal["top", "sample"]
    n: Count


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
        if len(set(self.strategies)) < len(self.strategies):
            raise ValueError("strategies must differ in how or n")
        return self


class Merge(Section):
    fill_weight: Positive = 0.3


class Trending(Section):
    half_life_days: tuple[Positive, ...] = (3.0, 7.0, 14.0, 30.0, 90.0, 365.0)


class Strangers(Section):
    max_features: Count = 1000
    shrinkage: tuple[Positive, ...] = (10.0, 30.0, 100.0, 300.0, 1000.0)


class Newcomers(Section):
    max_features: Count = 100_000
    shrinkage: tuple[Positive, ...] = (1.0, 3.0, 10.0)


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
    ignored_weight: Choices[Annotated[float, Field(ge=0)]] = (0.0, 0.03, 0.3)


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
    history_half_life_visits: Choices[Positive | None] = (None, 8.0, 2.0)
    rating_slope: Choices[Annotated[float, Field(ge=0, lt=0.5)]] = (0.0, 0.2)
    ease_damping: Choices[Annotated[float, Field(ge=0, le=1)]] = (0.0, 0.2)
    pair_half_life_visits: Choices[Positive | None] = (None, 10.0)
    likeness: Choices[Annotated[float, Field(ge=0)]] = (0.0, 1.0, 3.0)
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
    item_start: Choices[Annotated[float, Field(ge=0)]] = (0.0, 1.5)
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
    new_item_slots: Annotated[int, Field(ge=0)] = 0
    variety: Literal["none", "calibration", "diversity"] = "none"
    variety_by: Annotated[str, Field(min_length=1)] | None = None
    max_ndcg_loss: Share = 0.01
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

    @model_validator(mode="after")
    def _candidates(self) -> "Recommend":
        if self.n > self.n_candidates:
            raise ValueError(f"n {self.n} must not exceed n_candidates {self.n_candidates}")
        if self.new_item_slots >= self.n:
            raise ValueError(f"new_item_slots {self.new_item_slots} must be less than n {self.n}")
        if (self.variety == "none") != (self.variety_by is None):
            raise ValueError("variety and variety_by go together")
        return self
