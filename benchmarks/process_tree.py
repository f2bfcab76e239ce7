"""What a process and all that it started take: seconds of processors, and memory at its peak."""

import os
import threading
import time
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
    """This process and its children's children, which a thread looks at while the context is open.

    What ends keeps counting as it was last seen. The kernel's own count of children that ended would not do: PySpark's
    daemon does not wait for its workers, so theirs are lost. What lives for less than a look is not seen. What looking
    itself takes is left out.
    """

    def __init__(self) -> None:
        self._root = psutil.Process(os.getpid())
        self._used: dict[psutil.Process, float] = {}
        self._looking = 0.0  # seconds of processors that looking took
        self._lock = threading.Lock()
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
        """Return what has been used so far."""
        with self._lock:
            self._look()
            own, everything = self._used[self._root], sum(self._used.values())
            return Processors(own - self._looking, everything - self._looking)

    def forget_peaks(self) -> None:
        """Let peaks begin anew."""
        self._peaks = {"peak": 0, "peak_driver": 0, "peak_worker": 0}

    def peaks(self) -> dict[str, int]:
        """Return the largest resident bytes seen: of all, of this process, of one other process of Python."""
        return dict(self._peaks)

    def _look_on(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            with self._lock:
                self._look()

    def _look(self) -> None:
        begun = time.thread_time()
        sizes = {"peak": 0, "peak_driver": 0, "peak_worker": 0}
        for process in [self._root, *self._root.children(recursive=True)]:
            try:
                with process.oneshot():
                    times, size, name = process.cpu_times(), process.memory_info().rss, process.name()
            except psutil.Error:  # it has ended
                continue
            self._used[process] = times.user + times.system
            sizes["peak"] += size
            kind = "peak_driver" if process == self._root else "peak_worker" if name.startswith("python") else "peak"
            sizes[kind] = max(sizes[kind], size)
        self._peaks = {name: max(value, sizes[name]) for name, value in self._peaks.items()}
        self._looking += time.thread_time() - begun
