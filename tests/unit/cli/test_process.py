"""SIGTERM in a command that mostly waits for the JVM."""

import signal
import subprocess
import sys
import time

# `py4j.waiting` stands for Py4J: code that waits there must not be left amid an answer.
COMMAND = """
import argparse, sys, time, types
from ganrec_spark.cli import process
waiting = types.ModuleType("py4j.waiting")
exec("import time\\ndef answer(seconds): time.sleep(seconds); answered.append(seconds)", waiting.__dict__)
waiting.answered = answered = []

def command(_):
    print("begun", flush=True)
    try:
        while True:
            waiting.answer({seconds})
            asked = len(answered)
            sum(range(1_000_000))
    finally:
        answered.clear()
        waiting.answer(0.1)
        time.sleep(0.2)
        print("let go", len(answered), flush=True)

process._GRACE_SECONDS = {grace}
parser = argparse.ArgumentParser()
parser.set_defaults(handler=command)
sys.exit(process.guarded(parser, []))
"""


def ended(seconds: float, grace: float) -> tuple[int, float, str, str]:
    """Return exit code, seconds from SIGTERM to the end, and what a command said whose every answer takes so long."""
    words = [sys.executable, "-c", COMMAND.format(seconds=seconds, grace=grace)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    said, complained = process.communicate(timeout=30)
    return process.returncode, time.monotonic() - began, said, complained


def test_a_command_without_a_job_to_cancel_ends_between_two_answers_and_lets_go_whole() -> None:
    code, seconds, said, complained = ended(seconds=0.3, grace=20)
    assert (code, said) == (143, "let go 1\n")
    assert complained == "ganrec: ended by SIGTERM; run it again, what has finished is kept\n"
    assert seconds < 10


def test_an_answer_that_never_comes_is_not_waited_for_and_the_end_is_told() -> None:
    code, seconds, said, complained = ended(seconds=60, grace=0.5)
    assert (code, said) == (143, "")
    assert complained == "ganrec: ended by SIGTERM; run it again, what has finished is kept\n"
    assert seconds < 10
