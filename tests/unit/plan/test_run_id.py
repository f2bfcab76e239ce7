"""Names of runs: which is later, and the moment that each stands at."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ganrec_spark.errors import ConfigError
from ganrec_spark.plan.run_id import RunId


def test_later_runs_are_greater_by_number_and_not_by_text() -> None:
    names = ["2026-11-01", "2026-11-01.1", "2026-11-01.9", "2026-11-01.10", "2026-11-02"]
    assert [str(run) for run in sorted(map(RunId.parse, reversed(names)))] == names


@pytest.mark.parametrize("text", ["", "2026-11-31", "2026-11-01.0", "2026-11-01.01", "2026-11-01.x", "20261101"])
def test_what_names_no_run_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"run id .*expected a date, YYYY-MM-DD, or a further run"):
        RunId.parse(text)


def test_a_run_stands_at_the_end_of_its_date_or_at_a_moment_of_it() -> None:
    run = RunId.parse("2026-11-01.3")
    noon = datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert run.as_of(None) == datetime(2026, 11, 2, tzinfo=UTC)
    assert run.as_of(noon.replace(tzinfo=None)) == noon
    assert run.as_of(noon.astimezone(timezone(timedelta(hours=5)))) == noon
    for other in (noon - timedelta(days=1), noon + timedelta(days=1)):
        with pytest.raises(ConfigError, match=r"run.as_of: expected a moment of the run's date 2026-11-01"):
            run.as_of(other)
