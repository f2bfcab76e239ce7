"""The benchmark of submitted stages in miniature, on the cluster and the catalog that this tier has."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import stages
from long.test_benchmarks import ONE_OF_EACH

# No generator is trained and no fill tried: what is timed here is two submissions.
FEW = ("--users", "60", "--first", "2", "--set", "sparsity.max_ratings=0")


@pytest.mark.timeout(900)
def test_stages_prints_a_row_for_each_submission(
    master: str, catalog: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def running(value: object) -> Iterator[object]:
        yield value

    monkeypatch.setattr(stages, "postgresql", lambda: running(catalog))
    monkeypatch.setattr(stages, "spark_cluster", lambda folder: running(master))
    monkeypatch.setattr(sys, "argv", ["stages.py", *FEW, *(word for one in ONE_OF_EACH for word in ("--set", one))])
    stages.main()
    told = capfd.readouterr().out
    rows = dict(re.findall(r"^\| (\w+) \| (?:[\d.]+ \| ){2}([\d.]+) \|$", told, re.MULTILINE))
    assert list(rows) == ["ingest", "split"]
    assert all(float(seconds) > 0 for seconds in rows.values())
    assert re.search(r"^\| all \| [\d.]+ \(command: [\d.]+\) \| [\d.]+ \| [\d.]+ \|$", told, re.MULTILINE)
    assert re.search(r"^A submission's fixed cost: [\d.]+ s on average$", told, re.MULTILINE)
