"""Configuration is strict, layered, and explained key by key."""

import re
from pathlib import Path

import pytest
import yaml

from ganrec_spark.config.load import load_config
from ganrec_spark.config.sections import Config
from ganrec_spark.errors import ConfigError

CONF = Path(__file__).resolve().parents[3] / "conf"
EXPLAINED = ("default.yaml", "models.yaml")  # what an operator decides, what a data scientist tunes


@pytest.mark.parametrize("name", EXPLAINED)
def test_explained_files_are_the_defaults(name: str) -> None:
    assert load_config(CONF / name, environ={}) == Config()


def test_every_key_stands_in_one_of_the_two_files() -> None:
    operator, models = (yaml.safe_load((CONF / name).read_text()) for name in EXPLAINED)
    both = {name: operator.get(name, {}) | models.get(name, {}) for name in Config.model_fields}
    assert both == Config().model_dump(mode="json")
    assert operator.keys() | models.keys() == both.keys()
    assert {name: operator[name].keys() & models[name].keys() for name in operator.keys() & models.keys()} == {
        "gate": set(),
        "recommend": set(),
    }


def test_every_key_is_explained_where_it_stands_alone() -> None:
    # A section may explain a group in its first line; every scalar of the flat sections has a comment of its own
    # unless its name says all (a size, a number of iterations).
    lines = [line for name in EXPLAINED for line in (CONF / name).read_text().splitlines()]
    keys = [line for line in lines if re.match(r"^  [a-z_]+:", line)]
    unexplained = [line.strip() for line in keys if "#" not in line]
    plain = {"iterations", "blocks", "dropout", "embedding_size", "max_epochs", "gradient_clip", "rating_max"}
    plain |= {"vae_latent_size", "vae_hidden_size"}
    assert {line.split(":")[0] for line in unexplained} <= plain


@pytest.mark.parametrize("name", ["demo.yaml", *EXPLAINED])
def test_shipped_files_load(name: str) -> None:
    written = yaml.safe_load((CONF / name).read_text())
    loaded = load_config(CONF / name, environ={}).model_dump(mode="json")
    for section, keys in written.items():
        assert {key: loaded[section][key] for key in keys} == keys


def test_layers_file_environment_set(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("sparsity: {max_ratings: 1, min_sparse_users: 7}\nals: {iterations: 2}\n")
    config = load_config(
        file, ["sparsity.max_ratings=3"], {"GANREC_SPARSITY__MAX_RATINGS": "2", "GANREC_ALS__ITERATIONS": "4"}
    )
    assert config.sparsity.max_ratings == 3
    assert config.als.iterations == 4
    assert config.sparsity.min_sparse_users == 7


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sparsity.max_rating=3", ["sparsity.max_rating", "unknown key", "max_ratings"]),
        ("nonsense=3", ["nonsense", "unknown key", "sparsity"]),
        ("sparsity.max_ratings=abc", ["sparsity.max_ratings", "integer", "'abc'"]),
        ("sparsity.max_ratings=1.5", ["sparsity.max_ratings", "1.5"]),
        ("split.test_share=1.5", ["split.test_share", "less than 1", "1.5"]),
        ("split.test_share=0.95", ["split", "leave a share for training"]),
        ("split.protocol=random", ["split.protocol", "leave_last_out", "'random'"]),
        ("split.protocol=given", ["ingest.test_source"]),
        ("sparsity.group_by=bucket", ["group_by", "'bucket'"]),
        ("ingest.rating_min=.nan", ["ingest.rating_min"]),
        ("lake.namespace='a; DROP TABLE b'", ["lake.namespace"]),
        ("transformer.embedding_size=130", ["transformer", "130", "multiple of 3", "head_size 64"]),
        ("transformer.head_size=50", ["transformer", "128", "multiple of 3"]),
        ("augment.strategies=[{how: top, n: 1}, {how: top, n: 1}]", ["augment", "differ in how"]),
        ("augment.strategies=[{how: top, n: 1, much: 0}]", ["augment.strategies.0.much", "unknown key"]),
        ("transformer.embedding_size=large", ["transformer.embedding_size", "auto", "'large'"]),
        ("sparsity.bucket_edges=[5, 3]", ["bucket_edges", "ascend"]),
        ("no_equals_sign", ["section.key=value"]),
    ],
)
def test_bad_values_name_key_value_and_what_is_allowed(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(overrides=[override], environ={})
    for word in words:
        assert word in str(error.value)


def test_unreadable_file_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [1")
    for name in ("missing.yaml", "bad.yaml"):
        with pytest.raises(ConfigError, match=name):
            load_config(tmp_path / name, environ={})


def test_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Config().run.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("configured", "n_ratings", "size", "heads"),
    [("auto", 499_999, 64, 1), ("auto", 500_000, 128, 2), (32, 500_000, 32, 1), (96, 10, 96, 2), (256, 10, 256, 4)],
)
def test_many_ratings_ask_for_a_larger_transformer(
    configured: int | str, n_ratings: int, size: int, heads: int
) -> None:
    config = load_config(overrides=[f"transformer.embedding_size={configured}"], environ={}).transformer
    assert (config.size(n_ratings), config.heads(size)) == (size, heads)


def test_maps_merge_over_the_defaults_in_every_layer(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("ingest: {event_weights: {view: 0.5, wish: 2.0}}\nlake: {properties: {jdbc.user: bob}}\n")
    environ = {"GANREC_INGEST__EVENT_WEIGHTS__CART": "4.0"}
    config = load_config(file, ["ingest.event_weights.purchase=null", "spark.profiles.training.a=b"], environ)
    assert config.ingest.event_weights == {"view": 0.5, "click": 2.0, "cart": 4.0, "wish": 2.0}
    assert config.lake.properties["type"] == "jdbc"
    assert config.lake.properties["jdbc.user"] == "bob"
    assert config.spark.profiles.training["spark.dynamicAllocation.enabled"] == "false"
    # Another kind of catalog has none of this one's properties.
    rest = load_config(overrides=["lake.properties={type: rest, uri: 'https://catalog'}"], environ={})
    assert rest.lake.properties == {"type": "rest", "uri": "https://catalog"}
    assert load_config(environ={}) == Config()


@pytest.mark.parametrize("text", ["{on: 3, click: 2}", "{click: 2, no: 1}"])
def test_a_kind_of_event_that_yaml_takes_for_a_truth_value_is_not_renamed(text: str) -> None:
    with pytest.raises(ConfigError, match=r"ingest.event_weights: found (True|False) as a key; quote on, off"):
        load_config(overrides=[f"ingest.event_weights={text}"], environ={})


def test_keys_are_taken_by_their_earlier_names_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("partition: {length: 7}\nparquet: {row_groups: 3}\nitem_item: {pair_half_life: [2.0]}\n")
    config = load_config(file, ["generator.history_half_life=[null]", "partition.row_groups=5"], environ={})
    assert (config.parquet.length, config.parquet.row_groups) == (7, 5)
    assert config.item_item.pair_half_life_visits == (2.0,)
    assert config.generator.history_half_life_visits == (None,)
    assert "partition is called parquet now" in caplog.text


def test_rules_are_taken_by_their_earlier_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(
        "recommend: {n: 7, blocked_items: old.csv, available_items: a.csv}\nrules: {max_per_category: null}\n"
    )
    config = load_config(file, ["rules.available_items=b.csv"], {})
    assert (config.recommend.n, config.rules.blocked_items, config.rules.available_items) == (7, "old.csv", "b.csv")
    assert "recommend.blocked_items is called rules.blocked_items now" in caplog.text
    assert load_config(overrides=["recommend.blocked_items=x.csv"], environ={}).rules.blocked_items == "x.csv"
