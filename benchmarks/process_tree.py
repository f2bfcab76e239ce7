"""What a process and all that it started take: seconds of processors, and memory at its peak."""

import os
import threading
from dataclasses import dataclass
from types import TracebackType

import psutil

_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Processors:
    """Seconds of processors: of this process alone, and of it and all that it started."""

    own: float
    all: float


class ProcessTree:
    """This process and its children's children. A thread looks at their memory while the context is open."""

    def __init__(self) -> None:
        self._root = psutil.Process(os.getpid())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self.forget_peaks()

    def __enter__(self) -> "ProcessTree":
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def processors(self) -> Processors:
        """Return what has been used so far. What ended counts where its parent waited for it, as the JVM does."""
        own = self._root.cpu_times()
        family = [self._root, *self._root.children(recursive=True)]
        return Processors(own.user + own.system, sum(map(_with_ended, family)))

    def forget_peaks(self) -> None:
        """Let peaks begin anew."""
        self._peaks = {"peak": 0, "peak_driver": 0, "peak_worker": 0}

    def peaks(self) -> dict[str, int]:
        """Return the largest resident bytes seen: of all, of this process, of one other process of Python."""
        return dict(self._peaks)

    def _look_on(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            own, workers, all_of_them = self._root.memory_info().rss, [0], 0
            for process in self._root.children(recursive=True):
                try:
                    size = process.memory_info().rss
                    workers += [size] if process.name().startswith("python") else []
                except psutil.Error:
                    continue
                all_of_them += size
            found = {"peak": own + all_of_them, "peak_driver": own, "peak_worker": max(workers)}
            self._peaks = {name: max(value, found[name]) for name, value in self._peaks.items()}


def _with_ended(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
