"""What a run says of itself."""

from ganrec_spark.run.runner import Outcome, where_time_went


def test_the_longest_stages_are_named_with_their_shares() -> None:
    outcomes = [Outcome(name, "done", "", seconds) for name, seconds in (("a", 1.0), ("b", 6.0), ("c", 3.0))]
    assert where_time_went(outcomes) == "3 stages in 10 s; longest: b 60%, c 30%, a 10%"
    assert where_time_went([Outcome("a", "kept", "", 0.0)]) == "1 stages in 0 s"
