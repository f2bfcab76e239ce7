"""What stands for a file that Spark cannot read by its name, or as it is packed: a link, or what is in it."""

import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from ganrec_spark.errors import InputError

PACKED = (".zip", ".zst")
_STREAMS = (".gz", ".bz2")  # by their names Spark unpacks them itself
GLOB = re.compile(r"[\[\]{}*?\\]")  # what Hadoop takes for a pattern


def hidden(path: Path) -> bool:
    """Whether a path, or what it lies in, begins with `_` or `.`, which is none of the data."""
    return any(part.startswith(("_", ".")) and "=" not in part for part in path.parts)


def needs_stand_in(file: Path, name: str, several: bool) -> bool:
    """Whether Hadoop cannot read the file by its name: packed, with a colon, .GZ; among `several` as a pattern."""
    suffix = file.suffix.lower()
    shouted = suffix in _STREAMS and file.suffix != suffix
    return suffix in PACKED or ":" in file.name or shouted or (several and GLOB.search(str(file)) is not None)


def readable(
    file: Path, name: str, scratch: Path, source: str, several: bool, always: bool
) -> Iterator[tuple[Path, str]]:
    """Yield the file and its name below the source, or what stands for it below `scratch`, in folders of its parts.

    That is what is in a zip or zst, and a link with a name that Hadoop can read.
    """
    if not always and not needs_stand_in(file, name, several):
        yield file, name
        return
    scratch.mkdir(parents=True, exist_ok=True)
    above = re.sub(f"{GLOB.pattern}|:", lambda sign: f"%{ord(sign[0]):02X}", str(Path(name).parent))
    folder = scratch / f"{len(list(scratch.iterdir())):06}" / above
    folder.mkdir(parents=True)
    suffix = file.suffix.lower()
    if suffix not in PACKED:  # Hadoop takes what stands before a colon for a scheme
        shouted = file.stem + suffix if suffix in _STREAMS else file.name
        target = folder / re.sub(f"{GLOB.pattern}|:", "_", shouted)
        target.symlink_to(file)
        yield target, name
        return
    try:
        if suffix == ".zst":
            target = folder / re.sub(f"{GLOB.pattern}|:", "_", file.stem)
            with pa.input_stream(str(file), compression="zstd") as packed, target.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
            yield target, name
            return
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir() and not hidden(Path(entry.filename))]
            if len({entry.filename for entry in entries}) < len(entries):
                raise zipfile.BadZipFile("two of its files have one name")
            # extract keeps the entry's folders, and nothing outside of `folder`.
            inside = [
                (Path(archive.extract(entry, folder)), str(Path(name).parent / entry.filename)) for entry in entries
            ]
        for found, inner in inside:
            yield from readable(found, inner, scratch, source, several=True, always=False)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
        raise InputError(
            f"source '{source}': expected an archive that can be unpacked, found '{name}': {error}; deliver it again, "
            "without a password, or pack it as gz or bz2"
        ) from error
