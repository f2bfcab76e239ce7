"""The files behind a source: where they lie, their first bytes, and unpacking what Spark cannot read packed."""

import bz2
import gzip
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from ganrec_spark.errors import InputError
from ganrec_spark.lake.files import require_up
from ganrec_spark.lake.iceberg import reason
from ganrec_spark.raw.stand_ins import GLOB, PACKED, hidden, needs_stand_in, readable

SAMPLE_BYTES = 1 << 18
# What a file begins with that is packed, or a workbook, whatever its name says.
_MAGIC = {
    rb"\x1f\x8b": "gzip",
    rb"BZh[1-9]1AY&SY": "bzip2",
    rb"\x28\xb5\x2f\xfd": "zstandard",
    rb"PK\x03\x04": "zip (or .xlsx)",
}
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_PART = re.compile(r"(?:^|/)([^/=]+)=([^/]*)(?=/)")
_TABLES = {"_delta_log": "Delta", ".hoodie": "Hudi"}  # what is in the folder of a table, beside files of old rows


@dataclass(frozen=True)
class Files:
    """The files of a source, as URIs in the order of their paths.

    `parts`: names of the folders' hive-style parts (`user_id=007/` is user_id), which count as columns of text.
    """

    source: str
    uris: tuple[str, ...]
    parts: tuple[str, ...] = ()


def located(spark: SparkSession, source: str, scratch: Path | None = None, ordered: bool = False) -> Files:
    """Return the files of a source: one file, all of a folder and of those in it, or what a glob matches.

    A path that exists is that path, whatever characters its name has. Names that begin with `_` or `.` are left out, as
    everywhere in Spark. zip and zst are unpacked into `scratch`; with `ordered` the other files are linked there,
    too, for the order of their paths is theirs. Raises InputError where there are none.
    """
    local = Path(source).expanduser()
    if "://" not in source and local.exists():
        root = local.absolute()
        _require_no_table(source, [path.name for path in root.iterdir()] if root.is_dir() else [])
        files = [root] if root.is_file() else sorted(local_files(root))
        if lost := [file for file in files if not file.exists()]:
            raise InputError(
                f"source '{source}': expected readable files, found '{lost[0].relative_to(root)}', a link to nothing; "
                "mend the link, or take it away"
            )
        named = [(file, str(file.relative_to(root)) if file != root else file.name) for file in files]
        if scratch is not None:
            stand_in = len(named) > 1 and ordered and any(needs_stand_in(file, name, True) for file, name in named)
            several = len(named) > 1 or any(file.suffix.lower() == ".zip" for file in files)
            named = [
                inner for file, name in named for inner in readable(file, name, scratch, source, several, stand_in)
            ]
        uris, relative = [f"file://{file}" for file, _ in named], [name for _, name in named]
    else:
        root_uri, found = _remote(spark, source)
        uris = sorted(found)
        relative = [uri.removeprefix(root_uri).lstrip("/") for uri in uris]
    if 0 < sum(GLOB.search(uri.partition("://")[2]) is not None for uri in uris) < len(uris):
        raise InputError(
            f"source '{source}': expected names without any of [ ] {{ }} * ? in a folder of several files, which Spark "
            "would read twice; rename what has them, or name each file as a source of its own"
        )
    if not uris:
        found_instead = "a folder without files" if local.exists() else "nothing there"
        raise InputError(
            f"source '{source}': expected a readable file, folder or table, found {found_instead}; check the delivery, "
            "ingest.source, ingest.test_source and ingest.format"
        )
    packed = [uri for uri in uris if uri.lower().endswith(PACKED)]
    if packed:
        raise InputError(
            f"source '{source}': expected files that Spark reads as they are, found {packed[0]}; unpack it, or pack it "
            "as gz or bz2"
        )
    parts = {tuple(name for name, _ in _PART.findall(path)) for path in relative}
    names = [name.lower() for name in max(parts, key=len)]
    if len(set(names)) < len(names):
        raise InputError(
            f"source '{source}': expected each part (name=value/) once above a file, found {'/'.join(names)}; "
            "rename one"
        )
    if len(parts) > 1:
        raise InputError(
            f"source '{source}': expected the same parts (name=value/) above every file, found "
            f"{' and '.join(sorted('/'.join(names) or 'none' for names in parts))}; bring the folders into one order"
        )
    return Files(source, tuple(uris), parts.pop())


def local_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of those in it, through links, too: each once, by its own path if it is there.

    A link may lead to what is in the folder anyway (`latest`), back to the folder itself, or to what lies under a name
    that is left out. Raises OSError where a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    found: dict[str, Path] = {}
    waiting, seen = [folder], set[str]()
    while waiting:
        # Not through links: what is here by itself comes first.
        for place, folders, names in os.walk(waiting.pop(0), onerror=refuse):
            folders[:] = [name for name in folders if not hidden(Path(name))]
            real = os.path.realpath(place)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            waiting += [link for link in (Path(place) / name for name in folders) if link.is_symlink()]
            for path in (Path(place) / name for name in names if not hidden(Path(name))):
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
        statuses = [status for status in matched if not hidden(Path(status.getPath().getName()))]
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
    for uri in files.uris:
        sample = first_bytes(spark, uri)
        if sample.strip():
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
        for name, value in dict(_PART.findall(uri)).items():  # the last one: what lies above the source does not count
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
    # The last one: what lies above the source does not count.
    pattern = f".*/{re.escape(name)}=([^/]*)/".replace("\\", "\\\\").replace("'", "\\'")
    # Encoded twice: as a path, and inside it by whoever made the folders, if they did.
    once = f"url_decode(replace(regexp_extract({uri_column}, '{pattern}', 1), '+', '%2B'))"
    twice = f"coalesce(try_url_decode(replace({once}, '+', '%2B')), {once})"
    return f"nullif({twice}, '{_NO_VALUE}')"


def _opened(path: Path) -> IO[bytes]:
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}
    stream: IO[bytes] = openers.get(path.suffix, Path.open)(path, "rb")
    return stream


def _require_no_table(source: str, names: list[str]) -> None:
    """Raise InputError for the folder of a table: files of rows that were replaced lie beside those that count."""
    if kind := next((_TABLES[name] for name in names if name in _TABLES), None):
        raise InputError(
            f"source '{source}': expected files, found the folder of a {kind} table; read it as a table "
            "(ingest.format=table), or export it"
        )


def _hadoop_path(spark: SparkSession, uri: str) -> Any:
    jvm: Any = spark._jvm
    return jvm.org.apache.hadoop.fs.Path(uri)


def _remote(spark: SparkSession, source: str) -> tuple[str, list[str]]:
    """Return the folder and the files of a URI, a folder or a glob, by Hadoop's file systems."""
    found: list[str] = []
    try:
        for status, above in remote_files(spark, source):
            file = status.getPath().toString()
            if not hidden(Path(file.removeprefix(above.getPath().toString()).lstrip("/"))):
                found.append(file)
        _require_no_table(source, _beside(spark, source))
    except (Py4JError, PySparkException) as error:
        require_up(str(error), f"source '{source}'")
        raise InputError(
            f"source '{source}': expected a readable file, folder or table, found: {reason(error)}; "
            "check ingest.source and the file system's settings (spark.properties)"
        ) from error
    above = re.split(r"/[^/]*[\[\]{}*?]", _hadoop_path(spark, source).toString(), maxsplit=1)[0]
    root, *uris = (re.sub("^file:/(?!/)", "file:///", uri) for uri in (above, *found))
    return root, uris


def _beside(spark: SparkSession, source: str) -> list[str]:
    """Return which of the folders that tables have a URI has."""
    paths = {name: _hadoop_path(spark, f"{source.rstrip('/')}/{name}") for name in _TABLES}
    configuration = spark._jsc.hadoopConfiguration()
    return [name for name, path in paths.items() if path.getFileSystem(configuration).exists(path)]
