"""Time each stage in one local process and submitted on its own to a standalone cluster with PostgreSQL, side by side.

    .venv/bin/python benchmarks/stages.py [--users 300] [--first 5] [--set KEY=VALUE]

Makes a world, a cluster of two workers of one core and a catalog server, runs the pipeline both ways with the shipped
JVM options and small networks, and prints a Markdown table: seconds of the stage in one process; of its submission,
from the shell's prompt and back; and what of that the stage itself took. Needs `make env postgresql`.
"""

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from cluster.services import postgresql, spark_cluster  # noqa: E402
from e2e.lakeside import RUN_DATE, Lakeside  # noqa: E402

from ganrec_spark.plan.pipeline import STAGES  # noqa: E402
from ganrec_spark.raw.world import write_world  # noqa: E402

LOCAL = ("--set", "spark.master=local[2]")
SMALL = "{spark.executor.cores: '1', spark.executor.memory: 1g, spark.executorEnv.PYTHONPATH: ganrec_spark.zip}"


def in_one_process(lakeside: Lakeside) -> tuple[dict[str, float], float]:
    """Return stage -> seconds, and those of the whole command."""
    started = time.monotonic()
    done = lakeside.pipeline()
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return inside(done.stderr), time.monotonic() - started


def inside(log: str) -> dict[str, float]:
    """Return stage -> seconds from the log's closing lines."""
    return {name: float(seconds) for name, seconds in re.findall(r"(\w+): \w+ in ([\d.]+) s:", log)}


def submitted(lakeside: Lakeside, first: int) -> dict[str, tuple[float, float]]:
    """Return stage -> seconds of the submission and of the stage inside it, of the first so many stages."""
    found = {}
    commands = lakeside.ganrec("submit", "--run-date", RUN_DATE).stdout.splitlines()
    for stage, command in list(zip(STAGES, commands, strict=True))[:first]:
        started = time.monotonic()
        done = lakeside.run([str(Path(sys.executable).parent / "spark-submit"), *shlex.split(command)[1:]])
        if done.returncode:
            sys.exit(f"{stage.name}: {done.stderr[-3000:]}")
        found[stage.name] = (time.monotonic() - started, inside(done.stdout)[stage.name])
        print(f"{stage.name}: {found[stage.name][0]:.1f} s", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Parse the command line, run both ways, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--first", type=int, default=len(STAGES), metavar="N", help="submit the first N stages alone")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the pipeline, both ways")
    options = parser.parse_args()
    subprocess.run([sys.executable, str(REPOSITORY / "scripts" / "package.py")], check=True, stdout=sys.stderr)
    more = tuple(word for setting in options.set for word in ("--set", setting))
    with tempfile.TemporaryDirectory(prefix="ganrec-stages-") as folder, postgresql() as catalog:
        root, source = Path(folder), Path(folder) / "ratings.parquet"
        write_world(source, users=options.users, items=options.users // 3)
        alone, whole = in_one_process(Lakeside(root / "local", source, (*LOCAL, *more)))
        with spark_cluster(root / "cluster") as master:
            settings = ("--config", str(REPOSITORY / "conf" / "cluster.yaml"), "--master", master)
            settings += ("--set", f"spark.properties={SMALL}", "--set", "lake.namespace=stages", *more)
            each = submitted(Lakeside(root / "lake", source, settings, catalog), options.first)
    print("| stage | in one process | submitted | of it the stage |\n|---|---|---|---|")
    for name, (total, own) in each.items():
        print(f"| {name} | {alone[name]:.1f} | {total:.1f} | {own:.1f} |")
    own, total = sum(own for _, own in each.values()), sum(total for total, _ in each.values())
    print(f"| all | {sum(alone[name] for name in each):.1f} (command: {whole:.1f}) | {total:.1f} | {own:.1f} |")
    print(f"\nA submission's fixed cost: {(total - own) / len(each):.1f} s on average")


if __name__ == "__main__":
    main()
