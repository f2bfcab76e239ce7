"""What the driver says of workers that never come, with a launcher that gets no slots."""

import threading
from typing import Any
from unittest.mock import MagicMock

import pytest

from ganrec_spark.config.cluster import Distributed
from ganrec_spark.errors import TrainingError
from ganrec_spark.training import launcher
from ganrec_spark.training.reports import ReportServer


class Waiting:
    """Waits for slots that never come free, until it is told to end."""

    start_seconds = 1

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def run(self, train: object, arguments: dict[str, Any], reports: ReportServer) -> list[dict[str, object]]:
        assert self.cancelled.wait(60)
        raise RuntimeError("the job was cancelled")

    def cancel(self) -> None:
        self.cancelled.set()


def test_workers_that_do_not_start_in_time_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_launcher", lambda *_: Waiting())
    monkeypatch.setattr(launcher, "require_slots", lambda *_: None)
    with pytest.raises(TrainingError, match=r"none has started within 1 s \(distributed\.start_timeout_seconds\)"):
        launcher.train_distributed(MagicMock(), lambda worker: {}, Distributed(workers=2))
