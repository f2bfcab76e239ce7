"""Build the Horovod wheel that our torch needs, once, and keep it outside the checkout.

    python scripts/build_horovod.py [--gpu]      prints the path of the wheel, and nothing else, on stdout

Horovod 0.28.1, its last release, does not compile against torch >= 2.1: torch's headers want C++17 and Horovod
asks for C++14 in two places (upstream changed both in PR 3998 and never released it). So we fetch the published
source by name, version and sha256, change those lines, and build without isolation, against the torch that runs us.

Standard library only: it runs in an environment that holds nothing but requirements/*.txt.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
LOCK = REPOSITORY / "requirements" / "horovod.txt"


class Change(NamedTuple):
    """One edit of the published source; `before` must be there exactly once, or the release is not the one we know."""

    path: str
    before: str
    after: str


CPP_17 = (
    Change("CMakeLists.txt", "set(CMAKE_CXX_STANDARD 14)", "set(CMAKE_CXX_STANDARD 17)"),
    Change("horovod/torch/CMakeLists.txt", "set(CMAKE_CXX_STANDARD 14)", "set(CMAKE_CXX_STANDARD 17)"),
)
# torch from the package index is a CUDA build. Next to a partial CUDA toolkit (headers without a compiler) Horovod
# would go looking for nvcc; a CPU build must not care what else the machine has.
NO_CUDA = (
    Change(
        "cmake/Modules/FindPytorch.cmake",
        "print(True if ((torch.version.cuda is not None) and (CUDA_HOME is not None)) else False)",
        "print(False)",
    ),
)
BUILD_SETTINGS = {
    "HOROVOD_WITH_PYTORCH": "1",
    "HOROVOD_WITHOUT_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "HOROVOD_WITHOUT_MPI": "1",
    "HOROVOD_WITH_GLOO": "1",
}
GPU_SETTINGS = {"HOROVOD_GPU_OPERATIONS": "NCCL"}


def cache_folder(changes: tuple[Change, ...], settings: dict[str, str], gpu: bool) -> Path:
    """Where the wheel lives: its name says everything that decides whether it fits (sources, torch, Python, edits)."""
    root = os.environ.get("GANREC_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ganrec_spark"
    recipe = hashlib.sha256(json.dumps([changes, settings, LOCK.read_text()]).encode()).hexdigest()[:12]
    python = f"cp{sys.version_info.major}{sys.version_info.minor}-{sysconfig.get_platform()}"
    name = f"horovod-torch{version('torch')}-{python}-{'gpu' if gpu else 'cpu'}-{recipe}"
    return Path(root).expanduser() / "wheels" / name


def fetch_source(folder: Path) -> Path:
    """Download and unpack the locked source; return its folder."""
    # pip runs its setup.py for metadata; without isolation, because our setuptools is locked and here already.
    run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--no-binary", ":all:", "--require-hashes", "--requirement", LOCK, "--dest", folder),
    )
    (archive,) = folder.glob("horovod-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder)
    return folder / archive.name.removesuffix(".tar.gz")


def apply(changes: tuple[Change, ...], source: Path) -> None:
    """Edit the source in place; end the build where it is not the source that we know."""
    for path, before, after in changes:
        text = (source / path).read_text()
        if text.count(before) != 1:
            raise SystemExit(f"{path}: expected exactly once, found {text.count(before)} times: {before}")
        (source / path).write_text(text.replace(before, after))


def build(source: Path, settings: dict[str, str], target: Path) -> None:
    """Build a wheel from the source into `target`."""
    # A compiler takes up to 2.3 GB for torch's headers, so memory counts as well as CPUs. An outer make's MAKEFLAGS
    # would bring options and a job server that are not ours.
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    jobs = max(1, min(len(os.sched_getaffinity(0)), memory // 3_000_000_000))
    # The environment's bin first: its cmake is the version we locked.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", target, source),
        env={**os.environ, **settings, "MAKEFLAGS": f"-j{jobs}", "PATH": path},
    )


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    """Run a command with its output on stderr; a failure shows the command and ends the build."""
    done = subprocess.run([str(part) for part in command], env=env, stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(f"failed with status {done.returncode}: {' '.join(map(str, command))}")


def main() -> None:
    """Print the path of the wheel, built now or kept from before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true", help="build for CUDA and NCCL (needs nvcc and NCCL's headers)")
    gpu = parser.parse_args().gpu
    changes = CPP_17 if gpu else CPP_17 + NO_CUDA
    settings = BUILD_SETTINGS | (GPU_SETTINGS if gpu else {})

    kept = cache_folder(changes, settings, gpu)
    if not kept.exists():
        print("building Horovod: two to four minutes on two cores, once per machine", file=sys.stderr, flush=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="horovod-", dir=kept.parent) as scratch:
            source = fetch_source(Path(scratch))
            apply(changes, source)
            build(source, settings, Path(scratch) / "wheel")
            # Appears whole or not at all; when two builds race, the first one's wheel stays.
            try:
                (Path(scratch) / "wheel").rename(kept)
            except OSError:
                if not kept.exists():
                    raise
    (wheel,) = kept.glob("*.whl")
    print(wheel)


if __name__ == "__main__":
    main()
