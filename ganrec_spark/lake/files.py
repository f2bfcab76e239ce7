"""The one door to the lake's files that are no tables: checkpoints, TensorBoard's events, reports; local or in a store.

A path is local, or a URI: s3a:// (s3://), gs://, hdfs://, or what an installed fsspec package knows (abfss://: adlfs).
Of an S3 store endpoint, region and credentials come from the environment by the names that Spark's and Iceberg's own
clients read, so one set of them serves all: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, ... Who reads the sources
(raw.files, raw.state) is Spark, by Hadoop's file systems: a source may be whatever Spark can read.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import StoreError

# Where a store is; executors get them from the driver. Credentials do not travel: every machine has its own.
PLACE = ("AWS_ENDPOINT_URL", "AWS_REGION")
_ATTEMPTS, _FEW_ATTEMPTS = 8, 4  # with pauses that double: a minute, or seconds
_CONNECT_SECONDS, _REQUEST_SECONDS = 10, 60
_DOWNLOADS, _CHUNK_BYTES = 4, 8 << 20
# Elsewhere a file appears whole, or not at all.
_SHOWS_HALF_FILES = ("local", "hdfs")


# What the clients of stores say, what it means, what to do: a store that knows better, and one that is ill.
_KEYS = "see the credentials in the environment, of every machine that works, and what they allow"
_STORE = "see the address (lake.root, ingest.source), AWS_ENDPOINT_URL, AWS_REGION and the network, then run it again"
REFUSALS = (
    ("NO_SUCH_BUCKET", "there is no such bucket", _STORE),
    ("NoSuchBucket", "there is no such bucket", _STORE),
    ("Unable to load credentials", "there are no credentials for the object store", _KEYS),
    ("AWS Error ACCESS_DENIED", "the object store refuses us", _KEYS),
    ("Status Code: 403", "the object store refuses us", _KEYS),
)
OUTAGES = (
    ("AWS Error ", "the object store does not answer", _STORE),  # pyarrow's, after all its attempts
    ("Unable to execute HTTP request", "the object store does not answer", _STORE),
    ("Premature end of Content-Length", "the object store breaks off its answers", _STORE),
    ("Status Code: 503", "the object store is too busy", "run it again, later"),
    ("Status Code: 500", "the object store failed", "run it again, later"),
)


def lake_root(config: Config) -> str:
    """Return lake.root as an absolute path; a URI of a store (s3a://...) is returned as it is."""
    root = config.lake.root.removeprefix("file://")
    return root.rstrip("/") if is_remote(root) else str(Path(root).expanduser().absolute())


def is_remote(path: str) -> bool:
    """Whether a path is a URI, of whatever scheme."""
    return "://" in path


def exists(path: str) -> bool:
    """Whether there is such a file or folder. Raises OSError where the store does not answer."""
    system, place = _located(path)
    return bool(system.get_file_info(place).type != fs.FileType.NotFound)


def make_root(root: str) -> None:
    """Make the folder of a lake; one in a store needs none, but the store: see require_store."""
    if _is_elsewhere(root):
        require_store(root)
    else:
        Path(root.removeprefix("file://")).mkdir(parents=True, exist_ok=True)


def require_up(text: str, what: str) -> None:
    """Raise StoreError where a failure, in `text`, is an object store's that is ill: no fault of what was asked for."""
    if any(sign in text for sign, _, _ in REFUSALS):
        return
    for sign, meaning, advice in OUTAGES:
        if sign in text:
            raise StoreError(f"{what}: {meaning}; {advice}")


def require_store(root: str) -> None:
    """Raise StoreError where the store of a URI does not answer, refuses us, or has no such bucket; writes nothing."""
    try:
        system, place = _located(root, _FEW_ATTEMPTS)
        bucket = "/" if system.type_name in _SHOWS_HALF_FILES else place.lstrip("/").split("/")[0]
        found = system.get_file_info(bucket).type
    except (OSError, ImportError, ValueError) as error:
        found_instead = " ".join(str(error).split())[:300]
    else:
        if found != fs.FileType.NotFound:
            return
        found_instead = "no such bucket"
    raise StoreError(
        f"lake.root '{root}': expected a store that answers and lets us in, found: {found_instead}; see lake.root, "
        f"{', '.join(PLACE)} and the credentials in the environment"
    )


def read_file(path: str) -> bytes | None:
    """Return a file's content, or None where there is no such file."""
    system, place = _located(path)
    if system.get_file_info(place).type != fs.FileType.File:
        return None
    with system.open_input_stream(place, compression=None) as stream:
        return bytes(stream.read())


def write_file(path: str, content: bytes) -> None:
    """Write a file with the folders above it; a crash, or a reader meanwhile, finds the old content or the new one."""
    system, place = _located(path)
    if system.type_name not in _SHOWS_HALF_FILES:
        with system.open_output_stream(place, compression=None) as stream:
            stream.write(content)
        return
    system.create_dir(place.rpartition("/")[0], recursive=True)
    with system.open_output_stream(f"{place}.partial", compression=None) as stream:
        stream.write(content)
    system.move(f"{place}.partial", place)


def rename_file(path: str, name: str) -> None:
    """Give a file another name in its folder."""
    system, place = _located(path)
    system.move(place, f"{place.rpartition('/')[0]}/{name}")


def delete_folder(path: str) -> None:
    """Delete a folder with all that is in it, if there is one."""
    system, place = _located(path)
    if system.get_file_info(place).type == fs.FileType.Directory:
        system.delete_dir(place)


@contextmanager
def local_copies(urls: Sequence[str]) -> Iterator[list[str]]:
    """Give the files as URLs of this machine, in the same order: remote ones are copied for as long as it takes."""
    if not any(_is_elsewhere(url) for url in urls):
        yield list(urls)
        return
    with tempfile.TemporaryDirectory(prefix="ganrec-rows-") as folder:
        copies = [Path(folder) / f"{number:06d}.parquet" for number in range(len(urls))]
        with ThreadPoolExecutor(_DOWNLOADS) as pool:
            list(pool.map(_download, urls, copies))
        yield [f"file://{copy}" for copy in copies]


@contextmanager
def mirrored(folder: str) -> "Iterator[Mirror]":
    """Give a local folder for what can write to disks alone; at its end, too, its files are copied to `folder`."""
    if not _is_elsewhere(folder):
        yield Mirror(folder.removeprefix("file://"), None)
        return
    with tempfile.TemporaryDirectory(prefix="ganrec-mirror-") as local:
        mirror = Mirror(local, folder)
        yield mirror
        mirror.copy()


class Mirror:
    """A local folder and the one that shows its files (None: it does so itself)."""

    def __init__(self, local: str, shown: str | None) -> None:
        self.local, self._shown = local, shown

    def copy(self) -> None:
        """Show the files as they are now."""
        if self._shown is None:
            return
        for file in Path(self.local).rglob("*"):
            if file.is_file():
                write_file(f"{self._shown}/{file.relative_to(self.local)}", file.read_bytes())


def _is_elsewhere(path: str) -> bool:
    return is_remote(path) and not path.startswith("file://")


def _download(url: str, target: Path) -> None:
    system, place = _located(url)
    with system.open_input_stream(place, compression=None) as stream, target.open("wb") as file:
        shutil.copyfileobj(stream, file, _CHUNK_BYTES)


def _located(path: str, attempts: int = _ATTEMPTS) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path and the path in it."""
    if not _is_elsewhere(path):
        return fs.LocalFileSystem(), str(Path(path.removeprefix("file://")).absolute())
    scheme, _, rest = path.partition("://")
    if scheme in ("s3", "s3a"):
        # A URI's own settings would be pyarrow's alone.
        retry = fs.AwsStandardS3RetryStrategy(max_attempts=attempts)
        endpoint, region = (os.environ.get(name) for name in PLACE)
        store = fs.S3FileSystem(
            endpoint_override=endpoint,
            region=region or (None if endpoint else fs.resolve_s3_region(rest.split("/")[0])),
            connect_timeout=_CONNECT_SECONDS,
            request_timeout=_REQUEST_SECONDS,
            retry_strategy=retry,
        )
        return store, rest
    if scheme == "gs":
        return fs.GcsFileSystem(), rest
    if scheme not in ("hdfs", "viewfs"):
        import fsspec

        system, place = fsspec.core.url_to_fs(path)
        return fs.PyFileSystem(fs.FSSpecHandler(system)), place
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(path)
    return found
