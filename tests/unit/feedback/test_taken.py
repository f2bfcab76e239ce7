"""What a batch came to, in words; and which columns and settings events are read by."""

from ganrec_spark.config.load import load_config
from ganrec_spark.feedback.log import Taken
from ganrec_spark.feedback.rules import source_settings, wanted_columns


def test_the_sentence_names_every_row_once() -> None:
    taken = Taken(5, 2, 3, {"bad_time": 1, "too_late": 4, "bad_rank": 1}, 2, 1, 0)
    assert taken.read == 5 + 3 + 6
    assert taken.in_words() == (
        "14 rows read, 5 new events (2 of them late), 3 duplicates, 6 rejected (too_late 4, bad_rank 1, bad_time 1; 2 "
        "of them are in the quarantine already), 1 new users, 0 new items"
    )
    assert Taken(0, 0, 0, {}, 0, 0, 0).in_words() == (
        "0 rows read, 0 new events (0 of them late), 0 duplicates, 0 rejected, 0 new users, 0 new items"
    )


def test_kinds_are_laid_over_the_default_ones_and_taken_away_by_null() -> None:
    config = load_config(overrides=["feedback.kinds.view=1.5", "feedback.kinds.hide=null"], environ={})
    kinds = config.feedback.kinds
    assert (kinds["view"], kinds["click"], "hide" in kinds) == (1.5, 2.0, False)


def test_who_and_what_and_when_are_wanted_and_the_rest_may_be_missing() -> None:
    overrides = ["feedback.columns.user=customer", "feedback.columns.rank=null", "feedback.columns.value=3"]
    wanted, optional = wanted_columns(load_config(overrides=overrides, environ={}).feedback)
    assert wanted == {"user": "customer", "item": "item_id", "kind": "kind", "timestamp": "timestamp"}
    assert optional == {"event_id": "event_id", "value": 3, "edition": "edition"}


def test_of_the_ratings_source_the_scale_and_the_salt_count_and_not_how_its_files_are_written() -> None:
    overrides = ["ingest.delimiter=;", "ingest.format=table", "ingest.timestamp_unit=ms", "ingest.rating_max=5"]
    config = load_config(overrides=[*overrides, "ingest.pseudonym_salt=s"], environ={})
    settings = source_settings(config.feedback, config.ingest)
    assert (settings.delimiter, settings.format, settings.timestamp_unit) == (None, "auto", "auto")
    assert (settings.rating_max, settings.pseudonym_salt) == (5.0, "s")
