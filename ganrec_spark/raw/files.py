"""The files behind a source: where they lie, their first bytes, and unpacking what Spark cannot read packed."""

import bz2
import gzip
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from ganrec_spark.errors import InputError
from ganrec_spark.lake.files import require_up
from ganrec_spark.lake.iceberg import reason

SAMPLE_BYTES = 1 << 18
_PACKED = (".zip", ".zst")
_STREAMS = (".gz", ".bz2")  # by their names Spark unpacks them itself
# What a file begins with that is packed, or a workbook, whatever its name says.
_MAGIC = {
    rb"\x1f\x8b": "gzip",
    rb"BZh[1-9]1AY&SY": "bzip2",
    rb"\x28\xb5\x2f\xfd": "zstandard",
    rb"PK\x03\x04": "zip (or .xlsx)",
}
_EMPTY_FILES = 100  # looked past for one that has something in it
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_PART = re.compile(r"(?:^|/)([^/=]+)=([^/]*)(?=/)")


@dataclass(frozen=True)
class Files:
    """The files of a source, as URIs in the order of their paths.

    `parts`: names of the folders' hive-style parts (`user_id=007/` is user_id), which count as columns of text.
    """

    source: str
    uris: tuple[str, ...]
    parts: tuple[str, ...] = ()


def located(spark: SparkSession, source: str, scratch: Path | None = None) -> Files:
    """Return the files of a source: one file, all of a folder and of those in it, or what a glob matches.

    A path that exists is that path, whatever characters its name has. Names that begin with `_` or `.` are left out, as
    everywhere in Spark. zip and zst are unpacked into `scratch`. Raises InputError where there are none.
    """
    local = Path(source).expanduser()
    if "://" not in source and local.exists():
        root = local.absolute()
        files = [root] if root.is_file() else sorted(local_files(root))
        files = [file for file in files if file == root or not _hidden(file.relative_to(root))]
        if lost := [file for file in files if not file.exists()]:
            raise InputError(
                f"source '{source}': expected readable files, found '{lost[0].relative_to(root)}', a link to nothing; "
                "mend the link, or take it away"
            )
        named = [(file, str(file.relative_to(root)) if file != root else file.name) for file in files]
        if scratch is not None:
            named = [inner for file, name in named for inner in _unpacked(file, name, scratch, source)]
        uris, relative = [f"file://{file}" for file, _ in named], [name for _, name in named]
    else:
        root_uri, found = _remote(spark, source)
        uris = sorted(found)
        relative = [uri.removeprefix(root_uri).lstrip("/") for uri in uris]
    if not uris:
        found_instead = "a folder without files" if local.exists() else "nothing there"
        raise InputError(
            f"source '{source}': expected a readable file, folder or table, found {found_instead}; check the delivery, "
            "ingest.source, ingest.test_source and ingest.format"
        )
    packed = [uri for uri in uris if uri.lower().endswith(_PACKED)]
    if packed:
        raise InputError(
            f"source '{source}': expected files that Spark reads as they are, found {packed[0]}; unpack it, or pack it "
            "as gz or bz2"
        )
    parts = {tuple(name for name, _ in _PART.findall(path)) for path in relative}
    if len(parts) > 1:
        raise InputError(
            f"source '{source}': expected the same parts (name=value/) above every file, found "
            f"{' and '.join(sorted('/'.join(names) or 'none' for names in parts))}; bring the folders into one order"
        )
    return Files(source, tuple(uris), parts.pop())


def local_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of those in it, through links, too: each once, by its own path if it is there.

    A link may lead to what is in the folder anyway (`latest`), or back to the folder itself.
    """
    found: dict[str, Path] = {}
    waiting, seen = [folder], set[str]()
    while waiting:
        for place, folders, names in os.walk(waiting.pop(0)):  # not through links: what is here by itself comes first
            real = os.path.realpath(place)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            waiting += [link for link in (Path(place) / name for name in folders) if link.is_symlink()]
            for path in (Path(place) / name for name in names):
                target = os.path.realpath(path)
                if target not in found or not path.is_symlink():
                    found[target] = path
    yield from found.values()


def remote_files(spark: SparkSession, source: str) -> Iterator[tuple[Any, Any]]:
    """Yield Hadoop's status of each file of a URI, a folder or a glob, and that of what it lies in, or its own."""
    path = _hadoop_path(spark, source)
    system = path.getFileSystem(spark._jsc.hadoopConfiguration())
    if system.exists(path):
        statuses = [system.getFileStatus(path)]
    else:  # as in a folder: what begins with _ or . is none of the data
        matched = list(system.globStatus(path) or [])
        statuses = [status for status in matched if not _hidden(Path(status.getPath().getName()))]
    for status in statuses:
        if not status.isDirectory():
            yield status, status
            continue
        inside = system.listFiles(status.getPath(), True)
        while inside.hasNext():
            yield inside.next(), status


def sampled(spark: SparkSession, files: Files) -> tuple[str, bytes]:
    """Return the first file that is not empty, and its first bytes, unpacked.

    Raises InputError where these are packed still: the name does not say how.
    """
    uri, sample = files.uris[0], b""
    for uri in files.uris[:_EMPTY_FILES]:
        if sample := first_bytes(spark, uri):
            break
    packed = next((kind for magic, kind in _MAGIC.items() if re.match(magic, sample)), None)
    if packed:
        raise InputError(
            f"source '{files.source}': expected text or Parquet, found a {packed} file by the name of "
            f"{uri.rsplit('/', 1)[-1]}; name it after what it is (.gz, .bz2, .zst, .zip), or save a workbook as CSV"
        )
    return uri, sample


def part_values(files: Files) -> dict[str, tuple[str, ...]]:
    """Return the values that each part has, in the order of the files, as text; empty where it has none."""
    found: dict[str, dict[str, None]] = {name: {} for name in files.parts}
    for uri in files.uris:
        for name, value in _PART.findall(uri):
            if name in found:
                found[name][unquote(unquote(value)).replace(_NO_VALUE, "")] = None
    return {name: tuple(values) for name, values in found.items()}


def first_bytes(spark: SparkSession, uri: str, size: int = SAMPLE_BYTES) -> bytes:
    """Return the first bytes of a file, unpacked."""
    if uri.startswith("file://"):
        with _opened(Path(uri.removeprefix("file://"))) as stream:
            return stream.read(size)
    jvm: Any = spark._jvm
    path = _hadoop_path(spark, uri)
    configuration = spark._jsc.hadoopConfiguration()
    stream = path.getFileSystem(configuration).open(path)
    try:
        codec = jvm.org.apache.hadoop.io.compress.CompressionCodecFactory(configuration).getCodec(path)
        source = stream if codec is None else codec.createInputStream(stream)
        return bytes(source.readNBytes(size))
    finally:
        stream.close()


def local_stream(uri: str) -> IO[bytes]:
    """Return an unpacked stream of a local file."""
    return _opened(Path(uri.removeprefix("file://")))


def part_value(uri_column: str, name: str) -> str:
    """Return SQL for the value of a hive-style part in a column of paths, as text; NULL where it has none."""
    pattern = f"/{re.escape(name)}=([^/]*)/".replace("\\", "\\\\").replace("'", "\\'")
    # Encoded twice: as a path, and inside it by whoever made the folders.
    once = f"url_decode(replace(regexp_extract({uri_column}, '{pattern}', 1), '+', '%2B'))"
    return f"nullif(url_decode(replace({once}, '+', '%2B')), '{_NO_VALUE}')"


def _opened(path: Path) -> IO[bytes]:
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}
    stream: IO[bytes] = openers.get(path.suffix, Path.open)(path, "rb")
    return stream


def _hidden(path: Path) -> bool:
    return any(part.startswith(("_", ".")) and "=" not in part for part in path.parts)


def _unpacked(file: Path, name: str, scratch: Path, source: str) -> Iterator[tuple[Path, str]]:
    """Yield the file and its name below the source, or what stands for it below `scratch`.

    That is what is in a zip or zst, and a link with a name that Hadoop can read: no colon, .gz and not .GZ.
    """
    suffix = file.suffix.lower()
    shouted = suffix in _STREAMS and file.suffix != suffix
    if suffix not in _PACKED and ":" not in file.name and not shouted:
        yield file, name
        return
    folder = scratch / str(len(list(scratch.glob("*"))) if scratch.exists() else 0)
    folder.mkdir(parents=True)
    if suffix not in _PACKED:  # Hadoop takes what stands before a colon for a scheme
        target = folder / (file.stem + suffix if shouted else file.name).replace(":", "_")
        target.symlink_to(file)
        yield target, name
        return
    try:
        if suffix == ".zst":
            target = folder / file.stem
            with pa.input_stream(str(file), compression="zstd") as packed, target.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
            yield target, name
            return
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                inside = Path(entry.filename)
                if not entry.is_dir() and not _hidden(inside):
                    # extract keeps the entry's folders, and nothing outside of `folder`.
                    yield Path(archive.extract(entry, folder)), str(Path(name).parent / inside)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
        raise InputError(
            f"source '{source}': expected an archive that can be unpacked, found '{name}': {error}; deliver it again, "
            "without a password, or pack it as gz or bz2"
        ) from error


def _hadoop_path(spark: SparkSession, uri: str) -> Any:
    jvm: Any = spark._jvm
    return jvm.org.apache.hadoop.fs.Path(uri)


def _remote(spark: SparkSession, source: str) -> tuple[str, list[str]]:
    """Return the folder and the files of a URI, a folder or a glob, by Hadoop's file systems."""
    found: list[str] = []
    try:
        for status, above in remote_files(spark, source):
            file = status.getPath().toString()
            if not _hidden(Path(file.removeprefix(above.getPath().toString()).lstrip("/"))):
                found.append(file)
    except (Py4JError, PySparkException) as error:
        require_up(str(error), f"source '{source}'")
        raise InputError(
            f"source '{source}': expected a readable file, folder or table, found: {reason(error)}; "
            "check ingest.source and the file system's settings (spark.properties)"
        ) from error
    return _hadoop_path(spark, source).toString(), [re.sub("^file:/(?!/)", "file:///", uri) for uri in found]
