"""What columns are called: those that are wanted among those that a source has, and what usually stands for them."""

import re
from collections.abc import Iterable, Sequence

from ganrec_spark.errors import InputError

# What columns of well-known data sets and of most shops are called, in lower case.
_CALLED = {
    role: [word for line in names for word in line.split()]
    for role, names in {
        "user": (
            "user_id userid user uid user-id visitorid visitor_id customer_id customerid reviewerid reviewer_id",
            "member_id sessionid session_id user_id:token username profilename",
        ),
        "item": (
            "item_id itemid item iid movieid movie_id product_id productid article_id articleid asin parent_asin isbn",
            "book_id video_id videoid track_id song_id artist_id item_id:token poi_id location_id",
        ),
        "rating": (
            "rating ratings score stars overall rating:float book-rating rate value watch_ratio plays count weight",
        ),
        "timestamp": (
            "timestamp time ts date datetime unixreviewtime unix_review_time t_dat timestamp:float event_time",
            "created_at reviewtime date_added",
        ),
        "event": ("event event_type type action behavior",),
    }.items()
}


_THINGS = "user customer member item movie film book product article track song artist video place title name text"
_KNOWN = {word for words in _CALLED.values() for word in words} | set(_THINGS.split())


def unique(names: Sequence[str], reserved: Iterable[str] = ()) -> tuple[str, ...]:
    """Return `names` with blanks, later repetitions and reserved ones numbered, for Spark wants distinct columns."""
    seen = {plain(name) for name in reserved}
    result = []
    for position, name in enumerate(names, 1):
        fresh = name.strip() if name.strip() and plain(name) not in seen else f"{name.strip()}_{position}"
        seen.add(plain(fresh))
        result.append(fresh)
    return tuple(result)


def resolve(source: str, wanted: dict[str, str | int], found: Sequence[str]) -> dict[str, str]:
    """Return role -> name among those found, by name whatever its case, or by position from 1."""
    by_name = {plain(name): name for name in reversed(found)}
    missing = [name for name in wanted.values() if isinstance(name, str) and plain(name) not in by_name]
    beyond = [name for name in wanted.values() if isinstance(name, int) and name > len(found)]
    if missing or beyond:
        explain_missing(source, wanted, found, "")
    return {role: found[name - 1] if isinstance(name, int) else by_name[plain(name)] for role, name in wanted.items()}


def present(optional: dict[str, str | int], found: Sequence[str]) -> dict[str, str]:
    """Return role -> name of those columns that are there, as `resolve` finds them."""
    names = {plain(name) for name in found}
    there = {
        role: name
        for role, name in optional.items()
        if (name <= len(found) if isinstance(name, int) else plain(name) in names)
    }
    return resolve("", there, found)


def explain_missing(source: str, wanted: dict[str, str | int], found: Sequence[str], line: str) -> None:
    """Raise InputError saying which of the wanted columns are not there, and the settings that would fit."""
    present = {plain(name) for name in found}
    missing = [str(name) for name in wanted.values() if isinstance(name, int) or plain(name) not in present]
    where = f"first line {shown(line)}" if line else _columns_shown(found)
    likely = [f"--set ingest.columns.{role}={name}" for role, name in likely_columns(found, wanted).items()]
    hint = f" It looks as if {' '.join(likely)} would fit." if likely else ""
    raise InputError(
        f"source '{source}': expected columns {', '.join(map(str, wanted.values()))}, found {where}; missing: "
        f"{', '.join(missing)}. Check the delimiter (ingest.delimiter), name the columns in ingest.columns, by "
        "name or by "
        f"position from 1 (null where the file has none), or set ingest.header=false if the first line is data.{hint}"
    )


def likely_columns(found: Sequence[str], wanted: dict[str, str | int]) -> dict[str, str]:
    """Return role -> a column that is usually called so, of wanted roles whose own column is not there."""
    present = {plain(name): name for name in reversed(found)}
    missing = [role for role, name in wanted.items() if not isinstance(name, str) or plain(name) not in present]
    likely = {
        role: next((present[name] for name in _CALLED.get(role, ()) if name in present), None) for role in missing
    }
    return {role: name for role, name in likely.items() if name}


def shown(line: str) -> str:
    """Return a line as a message may show it: one that names columns as it is, of others no value, for some are ids."""
    if usual_names(re.split(r"::|[^\w .:-]+", line)) and len(line) < 1000 and not re.search(r"[0-9@]", line):
        return repr(line[:200])
    return f"of {len(line)} characters, that begins with data ({'digits' if line[:1].isdigit() else 'text'})"


def usual_names(cells: Iterable[str]) -> bool:
    """Whether cells are what columns are called: half of them are known, and not by chance, as a film is called Action.

    One known name alone is enough where there is no other cell, or where it says that it is an id's.
    """
    given = [cell.strip(' "') for cell in cells if cell.strip(' "')]
    ids = [cell for cell in given if re.fullmatch(r"\w+(_|-| )[iI][dD]|\w+I[dD]", cell)]
    known = [cell for cell in given if cell in ids or cell.lower() in _KNOWN]
    return 0 < len(given) <= 2 * len(known) and (bool(ids) or len(known) > 1 or len(given) == 1)


def _columns_shown(found: Sequence[str]) -> str:
    """Return names of columns as a message may show them; JSON that is keyed by user has ids in their place."""
    if usual_names(found) and not any(re.search(r"[0-9@]", name) for name in found):
        return f"columns {', '.join(found)}"
    return f"{len(found)} columns of other names (ganrec look shows them)"


def plain(name: object) -> str:
    """Return a name as it is compared: without blanks around it, in lower case."""
    return str(name).strip().lower()


def quoted(name: str) -> str:
    """Return a column's name as Spark's parser wants it, whatever characters it has."""
    return f"`{name.replace('`', '``')}`"
