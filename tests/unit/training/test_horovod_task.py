"""Horovod keeps a Spark task for seconds after its worker; ours leaves. The names that it is told by are Horovod's."""

import inspect

import pytest
from horovod.runner.common.util import safe_shell_exec
from horovod.spark import runner

from ganrec_spark.training.horovod_launcher import _tasks_that_leave
from ganrec_spark.training.horovod_task import task


def test_a_task_of_ours_is_horovods_but_for_how_long_it_lingers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(runner, "MINIMUM_COMMAND_LIFETIME_S", runner.MINIMUM_COMMAND_LIFETIME_S)
    monkeypatch.setattr(safe_shell_exec, "on_event", safe_shell_exec.on_event)
    monkeypatch.setattr(runner, "_task_fn", lambda *given: seen.append((given, runner.MINIMUM_COMMAND_LIFETIME_S)))
    assert runner.MINIMUM_COMMAND_LIFETIME_S == 3
    task("index", "addresses")
    assert seen == [(("index", "addresses"), 0.2)]
    assert safe_shell_exec.on_event.keywords == {"check_stop_interval_s": 0.1}


def test_horovod_starts_our_task_during_a_launch_and_its_own_after() -> None:
    own = runner._task_fn
    with _tasks_that_leave():
        assert runner._task_fn is task
    assert runner._task_fn is own
    # What it is given, and that it reads the constant and the function by these names.
    assert "_task_fn(index, " in inspect.getsource(runner._make_mapper)
    assert "MINIMUM_COMMAND_LIFETIME_S" in inspect.getsource(own)
    assert "on_event(event, exit_event.set, stop=stop" in inspect.getsource(safe_shell_exec.execute)
