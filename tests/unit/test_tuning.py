"""What a search begins with, and the file that it writes, without Spark."""

from pathlib import Path

from ganrec_spark.config.load import load_config
from ganrec_spark.recommenders.searched import Trial
from ganrec_spark.tuning import as_config, search_of


def test_both_sizes_that_auto_may_stand_for_are_tried_and_the_better_one_is_written(tmp_path: Path) -> None:
    config = load_config(environ={})
    keys = ("transformer.embedding_size", "transformer.adversary_radius")
    configured = list(search_of("transformer").configured(config, keys))
    settings = [(values["transformer.embedding_size"], values["transformer.adversary_radius"]) for values in configured]
    assert settings == [(64, 0.0), (128, 0.0), (64, 0.05)]
    trials = [Trial(number, values, 0.1 + 0.01 * (number == 1), 1.0) for number, values in enumerate(configured)]
    text = as_config({"transformer": trials}, config, "2026-11-01")
    assert "0.1100 by trial 2 of 3, 0.1100 as configured" in text
    (tmp_path / "tuned.yaml").write_text(text)
    assert load_config(tmp_path / "tuned.yaml", environ={}).transformer.embedding_size == 128
