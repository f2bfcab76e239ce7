"""The Spark task that starts one worker for Horovod, in the task's process: it needs no PyTorch, and imports none."""

from functools import partial

_LINGER_SECONDS = 0.2


def task(*arguments: object) -> object:
    """Be Horovod's own task, which ends soon after its worker.

    Horovod keeps it for three more seconds, lest the driver asks too late how the worker ended; but the driver asks
    while the worker still loads PyTorch. The thread that could stop the worker then has to notice the end as fast:
    left behind in Spark's process, it would hold semaphores whose loss Python complains of.
    """
    from horovod.runner.common.util import safe_shell_exec
    from horovod.runner.util.threads import on_event
    from horovod.spark import runner

    runner.MINIMUM_COMMAND_LIFETIME_S = _LINGER_SECONDS
    safe_shell_exec.on_event = partial(on_event, check_stop_interval_s=_LINGER_SECONDS / 2)
    return runner._task_fn(*arguments)
