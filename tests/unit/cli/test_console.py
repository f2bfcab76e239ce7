"""A run is a line a stage; details pass by on a terminal, and long silence is broken."""

import io
import logging
import re
import time
from types import SimpleNamespace

import pytest

from ganrec_spark.cli import console
from ganrec_spark.cli.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    mine = SimpleNamespace(monotonic=lambda: now[0], strftime=time.strftime, localtime=time.localtime)
    monkeypatch.setattr(console, "time", mine)
    return now


def said(stream: io.StringIO, verbose: bool = False) -> logging.Logger:
    logger = logging.Logger("test", logging.DEBUG)
    logger.addHandler(Console(stream, verbose))
    return logger


def lines(stream: io.StringIO) -> list[str]:
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in stream.getvalue().splitlines()]


def test_details_are_kept_where_they_were_asked_for(clock: list[float]) -> None:
    for verbose, expected in ((False, ["stage"]), (True, ["detail", "stage"])):
        stream = io.StringIO()
        logger = said(stream, verbose)
        logger.debug("detail")
        logger.info("stage")
        assert lines(stream) == expected


def test_a_log_file_hears_of_long_work_once_a_minute(clock: list[float]) -> None:
    stream = io.StringIO()
    logger = said(stream)
    for second in range(0, 200, 10):
        clock[0] = float(second)
        logger.debug("epoch at %d s", second)
    assert lines(stream) == ["epoch at 70 s", "epoch at 140 s"]


def test_a_terminal_shows_the_last_detail_in_one_line(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    logger = said(stream)
    logger.debug("a detail that is longer than the window")
    logger.debug("short")
    logger.info("stage")
    passing, second, kept = re.sub(r"\d\d:\d\d:\d\d ", "", stream.getvalue()).split("\r\033[K")[1:]
    assert (passing, second, kept) == ("a detail t", "short", "stage\n")


def test_lines_are_ours_alone_where_logging_is_set_up(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logging.basicConfig(level=logging.WARNING, handlers=[Console(stream)])
    logging.getLogger().handlers[0].emit(logging.makeLogRecord({"levelno": logging.INFO, "msg": "stage"}))
    assert lines(stream) == ["stage"]


def test_an_error_keeps_its_trace(clock: list[float]) -> None:
    stream = io.StringIO()
    try:
        raise ValueError("why")
    except ValueError:
        said(stream).exception("broken")
    assert lines(stream)[0] == "broken"
    assert "ValueError: why" in stream.getvalue()


def test_what_passes_by_makes_room(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(logging.getLogger(), "handlers", [Console(stream)])
    logging.getLogger().handlers[0].emit(logging.makeLogRecord({"levelno": logging.DEBUG, "msg": "detail"}))
    console.clear()
    assert stream.getvalue().endswith("detail\r\033[K")


def test_a_stream_that_is_gone_does_not_end_the_run() -> None:
    stream = io.StringIO()
    logger = said(stream)
    stream.close()
    logger.info("stage")
