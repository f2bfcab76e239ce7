"""Commands as processes of their own on a test's lake, and what befalls them: a locked catalog, a moved clock."""

import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

from ganrec_spark.config.sections import Config

REPOSITORY = Path(__file__).parents[2]
JAVA = "'-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC'"
# The command as its users run it; a test may patch something before.
COMMAND = """
import sys
from ganrec_spark.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
# Says when it is about to write to the log, and waits until it may.
MEETING = """
import sys, time
from pathlib import Path
from ganrec_spark.cli.main import main
from ganrec_spark.lake import events
here, add = Path(sys.argv.pop(1)), events.append
def append(lake, table, *arguments, **options):
    if table == "feedback_events":
        (here / "about").touch()
        while not (here / "go").exists():
            time.sleep(0.05)
    return add(lake, table, *arguments, **options)
events.append = append
sys.exit(main(sys.argv[1:]))
"""
# What asks the kernel for the time of day is told another one: seconds in a file, which may change at any moment.
_CLOCK = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static const volatile long *seconds;
__attribute__((constructor)) static void look(void) {
  const char *name = getenv("MOVED_CLOCK");
  int file = name ? open(name, O_RDONLY) : -1;
  void *there = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
  if (there != MAP_FAILED) seconds = there;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, clock, now);
  if (!failed && seconds && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *seconds;
  return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  now->tv_sec = found.tv_sec;
  now->tv_usec = found.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *now) {
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  if (now) *now = found.tv_sec;
  return found.tv_sec;
}
"""


def begin(
    config: Config,
    command: str,
    source: Path,
    *settings: str,
    code: str = COMMAND,
    first: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> "subprocess.Popen[str]":
    """Start `ganrec COMMAND SOURCE` on the lake of `config`; `code` is what runs it, and takes the words `first`."""
    own = (
        f"lake.root={config.lake.root}",
        f"lake.namespace={config.lake.namespace}",
        "spark.master=local[1]",
        "spark.driver_memory=1g",
        "spark.shuffle_partitions=1",
        f"spark.properties={{spark.driver.extraJavaOptions: {JAVA}}}",
        "stream.trigger_seconds=0.0",
    )
    words = [word for setting in (*own, *settings) for word in ("--set", setting)]
    return subprocess.Popen(
        [sys.executable, "-c", code, *first, command, str(source), *words],
        cwd=REPOSITORY,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(holds: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 240) -> None:
    """Wait until something holds; the process must not end before."""
    end = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, process.communicate()[1][-5000:]
        assert time.monotonic() < end
        time.sleep(0.1)


def kill(process: "subprocess.Popen[str]") -> None:
    """Kill a process and its JVM by signal 9, and see them go."""
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    psutil.wait_procs(family, timeout=60)


@contextmanager
def locked(root: str | Path) -> Iterator[None]:
    """Hold the lock that whoever writes to the lake's catalog needs, as another process does that writes."""
    with closing(sqlite3.connect(f"{root}/catalog.db", isolation_level=None, check_same_thread=False)) as catalog:
        catalog.execute("BEGIN IMMEDIATE")
        yield


class MovedClock:
    """A clock that is `ahead` of this machine's; those who start in its `environment` go by it, JVM and Python."""

    def __init__(self, folder: Path) -> None:
        self._file, source, shim = folder / "clock", folder / "clock.c", folder / "clock.so"
        self._file.write_bytes(struct.pack("l", 0))
        source.write_text(_CLOCK)
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(shim), str(source)], check=True)
        self.environment = {"LD_PRELOAD": str(shim), "MOVED_CLOCK": str(self._file)}

    def set(self, ahead: int) -> None:
        """Move it to so many seconds ahead of this machine's."""
        with self._file.open("r+b") as file:  # in place: the processes have it in their memory
            file.write(struct.pack("l", ahead))
