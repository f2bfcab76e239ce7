"""A command as a process: errors become messages and exit codes, SIGTERM an end within 10 seconds."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from ganrec_spark.cli.console import Console, clear
from ganrec_spark.errors import GanrecError

EXIT_CODES = """exit codes: 0 done · 1 unexpected · 2 configuration · 3 input data · 4 lake or missing stage
5 training · 6 quality checks refused publication · 143 ended by SIGTERM"""
_SIGTERM_CODE, _GRACE_SECONDS, _LOOK_AGAIN_SECONDS = 143, 8.0, 0.05
_TERMINATED = threading.Event()


def job(options: Callable[[argparse.ArgumentParser], None], command: Callable[[argparse.Namespace], int]) -> int:
    """Run one command as a spark-submit entry point; return its exit code."""
    parser = argparse.ArgumentParser(epilog=EXIT_CODES)
    options(parser)
    parser.set_defaults(handler=command)
    return guarded(parser, None)


def guarded(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse and run; print an expected error as one message and return its exit code."""
    os.umask(0o077)  # what the lake knows of people is its owner's
    _end_on_sigterm()
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, handlers=[Console(verbose=getattr(arguments, "verbose", False))])
    logging.getLogger("ganrec").setLevel(logging.DEBUG)
    try:
        code = int(arguments.handler(arguments))
        if not _TERMINATED.is_set():
            return code
    except SystemExit:
        if not _TERMINATED.is_set():
            raise
    except GanrecError as error:
        if not _TERMINATED.is_set():
            clear()
            print(f"ganrec: {type(error).__name__}: {error}", file=sys.stderr)
            return error.exit_code
    except Exception as error:
        if not _TERMINATED.is_set():
            told = _explained(error, arguments.command if "command" in arguments else Path(sys.argv[0]).stem)
            if told is None:
                raise
            clear()
            print(f"ganrec: {type(told).__name__}: {told}", file=sys.stderr)
            return told.exit_code
    signal.setitimer(signal.ITIMER_REAL, 0)
    _say_ended()
    return _SIGTERM_CODE


def _explained(error: Exception, what: str) -> GanrecError | None:
    """Return an error of Spark's as one line, where there is something that a person can do about it."""
    if not type(error).__module__.startswith(("py4j", "pyspark", "builtins")):
        return None
    from ganrec_spark.run.failures import explained

    return explained(error, what)


def _end_on_sigterm() -> None:
    """Let SIGTERM end the process within 10 s, with exit code 143, its run let go and its scratch files removed."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _begin_to_end)


def _begin_to_end(number: int, frame: FrameType | None) -> None:
    if _TERMINATED.is_set():
        return
    _TERMINATED.set()
    timer = threading.Timer(_GRACE_SECONDS, _give_up)
    timer.daemon = True
    timer.start()
    if _asks_the_jvm(frame):  # a job that is cancelled ends with an exception of its own
        threading.Thread(target=_cancel_jobs, daemon=True).start()
    signal.signal(signal.SIGALRM, _end_where_possible)
    _end_where_possible(number, frame)


def _end_where_possible(_: int, frame: FrameType | None) -> None:
    """Leave the command, but not amid an answer of the JVM nor while an exception lets things go: then look again."""
    if _asks_the_jvm(frame) or sys.exc_info()[0] is not None:
        signal.setitimer(signal.ITIMER_REAL, _LOOK_AGAIN_SECONDS)
        return
    raise SystemExit(_SIGTERM_CODE)


def _asks_the_jvm(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("py4j"):
            return True
        frame = frame.f_back
    return False


def _give_up() -> None:
    _say_ended()
    os._exit(_SIGTERM_CODE)


def _say_ended() -> None:
    clear()
    print("ganrec: ended by SIGTERM; run it again, what has finished is kept", file=sys.stderr, flush=True)


def _cancel_jobs() -> None:
    from pyspark import SparkContext

    context = SparkContext._active_spark_context
    with contextlib.suppress(Exception):  # the session may be ending under our hands
        for _ in range(2):  # what runs now, and what was just about to; the log's last commit must not be cancelled
            if context is not None:
                context.cancelAllJobs()
            time.sleep(0.3)
