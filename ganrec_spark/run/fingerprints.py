"""What a stage's rows follow from: the code, its settings, files and tables from outside, and the rows it read.

A fingerprint is a short text of named hashes, so that two of them say in what they differ.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from ganrec_spark.config.load import settings_json
from ganrec_spark.config.sections import Config
from ganrec_spark.plan.stage import Stage

_WORDS = {
    "code": "another version of the code",
    "settings": "other settings",
    "outside": "other source files",
    "inputs": "rows that have been replaced since",
}


def fingerprint(config: Config, stage: Stage, outside: str, executions: Mapping[str, str]) -> str:
    """Return the fingerprint of a stage that reads rows written by these executions (stage -> id).

    `outside` describes the files and tables that the stage reads outside the lake (raw.state.source_state).
    """
    parts = {
        "code": code_hash(),
        "settings": _digest([settings_json(config, ("run", *stage.config))]),
        "outside": _digest([outside]),
        "inputs": _digest(f"{name} {execution}" for name, execution in sorted(executions.items())),
    }
    return " ".join(f"{name}={value}" for name, value in parts.items())


def differences(found: str, expected: str, but: Iterable[str] = ()) -> list[str]:
    """Return in words what two fingerprints differ in, leaving out the parts named in `but`."""
    before, now = _parts(found), _parts(expected)
    if before.keys() != now.keys():
        return [_WORDS["code"]]
    return [_WORDS[name] for name in now if name not in but and before[name] != now[name]]


@cache
def code_hash() -> str:
    """Return a hash of the package's source files, the same in a checkout, a wheel and a zip."""
    sources = sorted(_sources(files("ganrec_spark"), ""))
    return _digest(f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in sources)


def _sources(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _sources(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            yield f"{prefix}{entry.name}", entry.read_bytes()


def _parts(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split())
    return {name: value for name, _, value in pairs}


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
