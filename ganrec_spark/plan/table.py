"""What a table of the lake is: its grain, key and columns, and the columns that several tables share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

NONE = "none"  # the fill of rows that no fill has changed


@dataclass(frozen=True)
class Column:
    """A column: name, Spark SQL type, and its meaning with unit."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class Table:
    """A table: `grain` says what one row means, `key` which columns identify it within its run (and phase).

    `scope`: `run` rows are replaced whole by a re-run; `append` rows (id dictionaries) are only ever added; so are
    `events`, each once by its key (lake.events); `pointer` tables hold one row for all runs. `partition_by` adds to the
    partitioning by run_id (and phase). `sorted_by` is the order of a file's rows, in small row groups: who asks for a
    few users reads a few of them.
    `renamed`: what columns were called by earlier versions, old name -> name; lakes are brought along.
    """

    name: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    phased: bool = False
    scope: str = "run"
    partition_by: tuple[str, ...] = ()
    sorted_by: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


def columns(text: str) -> tuple[Column, ...]:
    """Parse lines of `name type: comment`; one line a column reads better than one call a column."""
    found = []
    for line in filter(str.strip, text.splitlines()):
        head, comment = line.strip().split(": ", 1)
        name, kind = head.split(" ", 1)
        found.append(Column(name, kind, comment))
    return tuple(found)


RATING = """
    user_idx int: dense index of the user in table users
    item_idx int: dense index of the item in table items
    rating double: explicit rating on the source's scale, or summed event weights for implicit events
    ts timestamp: when the user gave it, UTC; of equal times none is earlier, unless ingest.tie_order is source
"""

CHECKPOINT = """
    version string: sha256 of the checkpoint's bytes, first 12 hex digits
    card string: JSON: settings, data, sizes and training summary needed to rebuild and judge the model
    part int: position of this chunk of the checkpoint, from 0
    content binary: chunk of the torch state dict; load with weights_only=True
"""

HISTORY = """
    model string: model that was trained
    epoch int: epoch, from 1
    name string: loss, validation_ndcg, distinct_items, ...
    value double: value at the end of the epoch
"""
