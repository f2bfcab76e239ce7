"""Where raw ratings come from: telling sources apart and noticing that they changed."""

import hashlib
import time
from pathlib import Path

from ganrec_spark.config import Config


def source_fingerprint(config: Config) -> str:
    """Return a text that changes when the configured sources change.

    Local files count by name, size and modification time; a table or remote URI is taken as changed every time.
    """
    parts = []
    for source in (config.ingest.source, config.ingest.test_source):
        if source is None:
            parts.append("none")
        elif config.ingest.format == "table" or "://" in source:
            parts.append(f"{source} {time.time_ns()}")
        else:
            parts.append(_local_fingerprint(Path(source).expanduser()))
    return " ".join(parts)


def _local_fingerprint(path: Path) -> str:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    facts = [f"{file}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files if file.is_file()]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()
