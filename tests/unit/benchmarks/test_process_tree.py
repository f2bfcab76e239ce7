"""What a process and its children take is counted, and that of the process alone apart."""

import subprocess
import sys
import time

from process_tree import ProcessTree

BUSY = "import time; end = time.process_time() + .5\nwhile time.process_time() < end: pass"
LARGE = "import time; held = b'1' * 200_000_000; time.sleep(3)"


def test_a_child_that_ended_is_counted_apart_from_its_parent() -> None:
    tree = ProcessTree()
    before = tree.processors()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    after = tree.processors()
    assert after.all - before.all >= 0.5
    assert after.own - before.own < 0.4


def test_memory_of_a_child_is_seen_until_it_is_forgotten() -> None:
    with ProcessTree() as tree, subprocess.Popen([sys.executable, "-c", LARGE]) as child:
        seen = {"peak_worker": 0}
        while seen["peak_worker"] < 200_000_000 and child.poll() is None:
            time.sleep(0.1)
            seen = tree.peaks()
        child.kill()
        child.wait()
        assert seen["peak_worker"] > 200_000_000
        assert seen["peak"] >= seen["peak_worker"] + seen["peak_driver"] - 1
        tree.forget_peaks()
        assert tree.peaks()["peak_worker"] < 200_000_000
