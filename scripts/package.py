"""Write dist/ganrec_spark.zip, the package as executors import it (spark.py_files): the same bytes for the same files.

scripts/package.py [--environment FOLDER]     also dist/environment.tar.gz, a virtual environment for spark.archives
"""

import argparse
import zipfile
from pathlib import Path

import venv_pack

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"


def package() -> Path:
    """Zip the package's modules; return the file."""
    target = DIST / "ganrec_spark.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((ROOT / "ganrec_spark").rglob("*.py")):
            # A fixed time: ZipInfo's own default, 1980.
            entry = zipfile.ZipInfo(str(file.relative_to(ROOT)))
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return target


def environment(folder: Path) -> Path:
    """Pack a virtual environment; nodes need its base interpreter under the same path. Return the file."""
    target = DIST / "environment.tar.gz"
    venv_pack.pack(str(folder), str(target), force=True)
    return target


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    DIST.mkdir(exist_ok=True)
    print(package())
    if arguments.environment:
        print(environment(arguments.environment))


if __name__ == "__main__":
    main()
