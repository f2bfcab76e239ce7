"""The report's first screen says what the tables say, by hand."""

from dataclasses import replace

from unit.reporting.sample import FACTS, decision, metric

from ganrec_spark.reporting.answers import (
    answers,
    attention,
    fill,
    over_popularity,
    published,
    refused,
    since_last_time,
)


def test_six_questions() -> None:
    assert [answer.question for answer in answers(FACTS)] == [
        "What was published?",
        "Is it better than what is popular?",
        "Is it better than last time?",
        "Did filling help, and whom?",
        "What was refused, and why?",
        "What needs attention?",
    ]


def test_what_readers_see() -> None:
    assert published(FACTS).words == "This run: lists of 3,000 people, which readers see since 2026-11-01 04:12 UTC."
    assert published(replace(FACTS, shown_run="2026-11-02")).words == "Not this run: readers see run 2026-11-02."
    assert published(replace(FACTS, shown_run=None)).words == "Not this run: readers see nothing yet."


def test_better_where_intervals_do_not_touch() -> None:
    words = "NDCG@10 on test: 0.3800 [0.3700, 0.3900], what is popular 0.1200 [0.1100, 0.1300]."
    assert over_popularity(FACTS).words == f"Yes. {words}"

    def against(popular: float) -> str:
        rows = [metric("blend", "none", 0.38), metric("popularity", "none", popular)]
        return over_popularity(replace(FACTS, metrics=rows)).words.split(".")[0]

    assert [against(popular) for popular in (0.35, 0.37, 0.41)] == ["Yes", "It cannot be told", "No, worse"]
    assert over_popularity(replace(FACTS, metrics=[])).words == "Not measured: no ratings were held back."


def test_validation_counts_where_there_is_no_test_and_the_weaker_of_two_fills() -> None:
    rows = [metric("blend", "none", 0.3, "validation"), metric("blend", "vae_top1", 0.2, "validation")]
    told = over_popularity(replace(FACTS, metrics=[*rows, metric("popularity", "none", 0.1, "validation")])).words
    assert told.startswith("Yes. NDCG@10 on validation: 0.2000 [0.1900, 0.2100]")


def test_last_time() -> None:
    assert since_last_time(FACTS).words.startswith(
        "About the same. NDCG@10 0.3800 [0.3700, 0.3900], in run 2026-10-31 0.3750"
    )
    assert since_last_time(replace(FACTS, metrics_before=[metric("blend", "none", 0.3)])).words.startswith("Yes. ")
    assert since_last_time(replace(FACTS, metrics_before=[metric("blend", "none", 0.5)])).words.startswith(
        "No, worse. "
    )
    other_split = [metric("blend", "none", 0.3, "validation")]
    assert since_last_time(replace(FACTS, metrics_before=other_split)).words == "Not measured alike in run 2026-10-31."
    assert since_last_time(replace(FACTS, run_before=None)).words == "There was no run before."


def test_whom_a_fill_helped() -> None:
    als = "vae_top1 changes sparse users' lists by ALS by +19.4 % [+15.4, +23.4] on validation"
    assert fill(FACTS).words == f"{als}, the blend's by +1.0 % [+0.2, +2.0]; it goes into what is published."
    assert fill(replace(FACTS, published_fill="none")).words.endswith("it stays out of what is published.")
    nothing = replace(FACTS, decisions=[decision("none", 0.0, accepted=True), decision("agn_top1", -0.1)])
    assert fill(nothing).words == "No fill was proven to help sparse users, so none is used."
    assert fill(replace(FACTS, decisions=[], no_filling="3 users")).words == "It was not tried: 3 users"


def test_what_was_refused() -> None:
    assert refused(FACTS).words == "2 fills; the best of them, cgan_top3: sparse users +3.0%."
    rows = replace(FACTS, rejected={"bad_rating": 7, "bad_time": 1}, n_ratings=92, decisions=[])
    assert refused(rows).words == "8 rows (8.7 for each hundred ratings), most by rule bad_rating (7)."
    assert refused(replace(FACTS, decisions=[])).words == "Nothing."


def test_what_needs_attention() -> None:
    assert attention(FACTS).words == "Nothing."
    late = {"name": "newest_rating", "passed": False, "severity": "warn", "message": "newest_rating: late"}
    odd = replace(
        FACTS, checks=[late], rejected={"bad_time": 1}, n_ratings=98, collapsed=["agn"], unserved={"blocked": 3}
    )
    assert attention(odd).words == (
        "newest_rating: late; more than one row for each hundred ratings was rejected: see table rejected_ratings; "
        "agn collapsed: it generates few different items; 3 people have no full list (blocked 3)"
    )
    assert attention(odd).tone == "odd"
