"""What a process and its children take is counted, and that of the process alone apart."""

import subprocess
import sys
import time

from process_tree import ProcessTree

BUSY = "import time; end = time.process_time() + 1\nwhile time.process_time() < end: pass\n"
# As PySpark's daemon: nobody waits for the worker, so the kernel does not count what it took.
ABANDONED = f"""
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
done, doing = os.pipe()
if os.fork() == 0:
    {BUSY.replace(chr(10), chr(10) + "    ")}
    time.sleep(1)
    os._exit(0)
os.close(doing)
os.read(done, 1)
"""
LARGE = "import time; held = b'1' * 200_000_000; time.sleep(3)"


def test_a_child_that_ended_is_counted_apart_from_its_parent() -> None:
    with ProcessTree() as tree:
        before = tree.processors()
        subprocess.run([sys.executable, "-c", BUSY + "time.sleep(1)"], check=True)
        after = tree.processors()
    assert 0.9 < after.all - before.all < 3
    assert after.own - before.own < 0.5


def test_a_worker_that_nobody_waited_for_is_counted() -> None:
    with ProcessTree() as tree:
        before = tree.processors()
        subprocess.run([sys.executable, "-c", ABANDONED], check=True)
        after = tree.processors()
    assert after.all - before.all > 0.9


def test_looking_is_left_out() -> None:
    tree = ProcessTree()
    before, begun = tree.processors(), time.process_time()
    while time.process_time() < begun + 1:
        after = tree.processors()
    assert after.own - before.own < 0.3


def test_memory_of_a_child_is_seen_until_it_is_forgotten() -> None:
    with ProcessTree() as tree, subprocess.Popen([sys.executable, "-c", LARGE]) as child:
        seen = {"peak_worker": 0}
        while seen["peak_worker"] < 200_000_000 and child.poll() is None:
            time.sleep(0.1)
            seen = tree.peaks()
        child.kill()
        child.wait()
        assert seen["peak_worker"] > 200_000_000
        assert seen["peak"] >= seen["peak_worker"]
        tree.forget_peaks()
        tree.processors()
        assert tree.peaks()["peak_worker"] < 200_000_000
