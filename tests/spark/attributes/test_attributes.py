"""Stage attributes: from sources of every form to rows, what cannot be used counted, and bad rows in quarantine."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spark.fixtures import MakeConfig

from ganrec_spark.config.sections import Config
from ganrec_spark.errors import InputError
from ganrec_spark.lake.store import Lake

RUN = "2026-11-01"
Run = Callable[..., list[str]]
PEOPLE = [
    {"user_id": "u1", "gender": "F", "age": 31.5, "since": date(2020, 5, 1), "tags": ["a", "b", "a"]},
    {"user_id": "u2", "gender": "M", "age": None, "since": None, "tags": []},
    {"user_id": "u9", "gender": None, "age": 7.0, "since": date(2021, 1, 2), "tags": ["c"]},
]
EXPECTED = {
    ("u1", "gender", "F", None),
    ("u1", "age", None, 31.5),
    ("u1", "since", "2020-05-01", 18_383.0),
    ("u1", "tags", "a", None),
    ("u1", "tags", "b", None),
    ("u2", "gender", "M", None),
    ("u9", "age", None, 7.0),
    ("u9", "since", "2021-01-02", 18_629.0),
    ("u9", "tags", "c", None),
}


@pytest.fixture
def ratings(tmp_path: Path) -> str:
    rows = [("u1", "i1", 5.0), ("u1", "i2", 4.0), ("u2", "i1", 3.0), ("u2", "i3", 3.0)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "rating"]).to_csv(tmp_path / "ratings.csv", index=False)
    return f"ingest.source={tmp_path / 'ratings.csv'}"


@pytest.fixture
def read(run_alone: Run, make_config: MakeConfig, ratings: str) -> Callable[..., tuple[Config, str]]:
    """Return a function that ingests the ratings and reads attributes by these settings: configuration and message."""

    def run(*settings: str) -> tuple[Config, str]:
        config = make_config(ratings, "ingest.columns.timestamp=null", *settings)
        return config, run_alone(config, "ingest", "attributes")[1]

    return run


def written(spark_lake: Lake, role: str) -> list[tuple[str, str, str | None, float | None]]:
    rows = spark_lake.read(f"{role}_attributes", RUN).join(spark_lake.read_all(f"{role}s"), f"{role}_idx").collect()
    return sorted(((row[f"{role}_id"], row.name, row.value, row.number) for row in rows), key=str)


def lake_of(lake: Lake, config: Config) -> Lake:
    return Lake(lake.spark, config.lake.catalog, config.lake.namespace)


def test_every_form_gives_the_same_rows(read: Callable[..., tuple[Config, str]], lake: Lake, tmp_path: Path) -> None:
    table = pa.Table.from_pylist(PEOPLE)
    pq.write_table(table, tmp_path / "people.parquet")
    lines = [json.dumps({**one, "since": one["since"] and str(one["since"])}) for one in PEOPLE]
    (tmp_path / "people.jsonl").write_text("\n".join(lines))
    texts = pd.DataFrame(PEOPLE).assign(tags=[";".join(one["tags"]) for one in PEOPLE])
    texts.to_csv(tmp_path / "people.tsv", index=False, sep="\t")
    for name, new in (("people.parquet", 1), ("people.jsonl", 0), ("people.tsv", 0)):
        config, told = read(f"ingest.users_source={tmp_path / name}")
        assert set(written(lake_of(lake, config), "user")) == EXPECTED, name
        assert len(written(lake_of(lake, config), "user")) == len(EXPECTED)
        assert told.startswith(f"3 rows read; {new} new users; ingest.users_source ")
        assert "gender category (2 different texts in 2), age number (numbers), since date (" in told
        assert "tags values (" in told
        columns = lake_of(lake, config).read("attribute_columns", RUN).orderBy("name").collect()
        assert [(row.name, row.kind, row.n_given, row.n_unusable) for row in columns] == [
            ("age", "number", 2, 0),
            ("gender", "category", 2, 0),
            ("since", "date", 2, 0),
            ("tags", "values", 2, 0),
        ]


def test_items_of_several_sources_with_vectors(
    read: Callable[..., tuple[Config, str]], lake: Lake, tmp_path: Path
) -> None:
    nan, long = float("nan"), "word " * 200_000
    content = {
        "item_id": ["i1", "i2", "i3", "i4", "i5"],
        "image": pa.array([[1.0, 2.0], [3.0, 4.0], [1.0], [nan, 0.0], None], pa.list_(pa.float32())),
        "sound": pa.array([[1.0] * 4, None, None, [2.0] * 4, [float("inf")] * 4], pa.list_(pa.float64())),
        "plot": [long, "short", None, "", "x"],
    }
    pq.write_table(pa.table(content), tmp_path / "content.parquet")
    (tmp_path / "items.csv").write_text("item_id,genres\ni1,Action|War\ni2,War\n")
    config, told = read(f"ingest.items_source=[{tmp_path / 'content.parquet'}, {tmp_path / 'items.csv'}]",
                        "ingest.item_columns={plot: text}")  # fmt: skip
    own = lake_of(lake, config)
    index = {row.item_idx: row.item_id for row in own.read_all("items").collect()}
    vectors = {(index[row.item_idx], row.modality): row.vector for row in own.read("item_vectors", RUN).collect()}
    assert vectors == {
        ("i1", "image"): [1.0, 2.0],
        ("i2", "image"): [3.0, 4.0],
        ("i1", "sound"): [1.0] * 4,
        ("i4", "sound"): [2.0] * 4,
    }
    assert "image vector (array<float>, 2 values are none)" in told
    assert "sound vector (array<double>, 1 values are none)" in told
    assert "7 rows read; 2 new items" in told
    values = written(own, "item")
    assert ("i1", "plot", long.strip(), None) in values
    assert [row for row in values if row[1] == "genres"] == [
        ("i1", "genres", "Action", None), ("i1", "genres", "War", None), ("i2", "genres", "War", None),
    ]  # fmt: skip


def test_bad_values_are_missing_and_bad_rows_in_quarantine(
    read: Callable[..., tuple[Config, str]], lake: Lake, tmp_path: Path
) -> None:
    (tmp_path / "people.csv").write_text(
        "user_id,age,group\nu1,31,a\nu1,32,a\n,33,b\nu2,old,b\nu3,1e999,b\nu4,\\N,NA\n"
    )
    config, told = read(
        f"ingest.users_source={tmp_path / 'people.csv'}",
        "ingest.user_columns={age: number}",
        "ingest.sensitive=[group]",
        "ingest.max_rejected_share=0.5",
    )
    own = lake_of(lake, config)
    ages = [row for row in written(own, "user") if row[1] == "age"]
    assert [(row[0], row[3]) for row in ages] in ([("u1", 31.0)], [("u1", 32.0)])
    assert "age number (2 values are none)" in told
    rows = own.read("rejected_attributes", RUN).orderBy("rule").collect()
    assert [row.rule for row in rows] == ["duplicate_id", "missing_id"]
    assert json.loads(rows[1].row) == {"user_id": None, "age": "33", "group": "b"}
    columns = {row.name: row for row in own.read("attribute_columns", RUN).collect()}
    assert (columns["age"].n_given, columns["age"].n_unusable, columns["age"].guessed_by) == (3, 2, "")
    assert (columns["age"].sensitive, columns["group"].sensitive) == (False, True)
    with pytest.raises(
        InputError, match=r"at most 5.0% .* found 2 of 6 \(duplicate_id 1, missing_id 1\); look at table"
    ):
        read(f"ingest.users_source={tmp_path / 'people.csv'}")


def test_what_nobody_knows(
    read: Callable[..., tuple[Config, str]], lake: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = {"user_id": [f"x{number}" for number in range(100_000)], "name": [f"n{number}" for number in range(100_000)]}
    pq.write_table(
        pa.table({**rows, "empty": pa.nulls(100_000, pa.string()), "one": ["1"] * 100_000}), tmp_path / "p.parquet"
    )
    config, told = read(f"ingest.users_source={tmp_path / 'p.parquet'}", "ingest.user_columns={name: category}")
    assert "100000 rows read; 100000 new users" in told
    values = lake_of(lake, config).read("user_attributes", RUN)
    counts = {row.name: row["count"] for row in values.groupBy("name").count().collect()}
    assert counts == {"name": 100_000, "one": 100_000}
    (warning,) = [line for line in caplog.messages if "none of its ids" in line]
    assert "none of its ids is one that the ratings have: it has 'a99" in warning
    assert "they have 'a9', 'a9'; all of them become new users" in warning


def test_what_cannot_be_meant(read: Callable[..., tuple[Config, str]], tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("user_id,age\nu1,31\n")
    (tmp_path / "more.csv").write_text("user_id,age\nu1,31\n")
    (tmp_path / "other.csv").write_text("id,age\nu1,31\n")
    people = f"ingest.users_source={tmp_path / 'people.csv'}"
    with pytest.raises(InputError, match=r"user_columns: .* found sex, which none of its sources has; they have age"):
        read(people, "ingest.user_columns={sex: category}")
    with pytest.raises(
        InputError, match=r"ingest.sensitive: expected columns of ingest.users_source, found sex, which"
    ):
        read(people, "ingest.sensitive=[sex]")
    with pytest.raises(InputError, match=r"users_source: expected columns of different names .* found 'age' in"):
        read(f"ingest.users_source=[{tmp_path / 'people.csv'}, {tmp_path / 'more.csv'}]")
    with pytest.raises(InputError, match=r"^ingest.users_source: .*expected columns user_id, found .*missing: user_id"):
        read(f"ingest.users_source={tmp_path / 'other.csv'}")
    with pytest.raises(InputError, match=r"^ingest.users_source: source .*nowhere.csv': expected a readable file"):
        read(f"ingest.users_source={tmp_path / 'nowhere.csv'}")
    _, told = read()
    assert told == "no sources of attributes"


def test_users_are_pseudonyms_where_they_are_in_ratings(
    read: Callable[..., tuple[Config, str]], lake: Lake, tmp_path: Path
) -> None:
    (tmp_path / "people.csv").write_text("user_id,group\nu1,a\nu2,b\nu2,c\n")
    config, told = read(
        f"ingest.users_source={tmp_path / 'people.csv'}", "ingest.pseudonym_salt=s", "ingest.max_rejected_share=0.5"
    )
    assert "0 new users" in told
    own = lake_of(lake, config)
    everything = [
        str(row) for table in ("user_attributes", "rejected_attributes") for row in own.read_all(table).collect()
    ]
    assert len(everything) == 3
    assert not any("u1" in row or "u2" in row for row in everything)


def test_what_people_rated_elsewhere_is_known_of_them(
    read: Callable[..., tuple[Config, str]], lake: Lake, tmp_path: Path
) -> None:
    books = tmp_path / "books.csv"
    books.write_text("user_id,item_id,rating\nu1,b1,5\nu1,b2,3\nu1,b1,4\nu7,b1,1\n,b3,2\nu2,,2\n")
    pd.DataFrame({"user_id": ["u2"], "item_id": [44]}).to_parquet(tmp_path / "songs.parquet")
    other = f"ingest.other_ratings={{books: {books}, songs: {tmp_path / 'songs.parquet'}}}"
    config, told = read(other, "ingest.max_rejected_share=0.5")
    own = lake_of(lake, config)
    assert written(own, "user") == [
        ("u1", "books", "b1", None),
        ("u1", "books", "b2", None),
        ("u2", "songs", "44", None),
        ("u7", "books", "b1", None),
    ]
    assert told.startswith("7 rows read; 1 new users; ")
    bad = own.read("rejected_attributes", RUN).collect()
    assert {(row.rule, json.loads(row.row).get("item_id")) for row in bad} == {
        ("missing_id", None),
        ("missing_id", "b3"),
    }
    columns = {row.name: (row.kind, row.n_given) for row in own.read("attribute_columns", RUN).collect()}
    assert columns == {"books": ("values", 4), "songs": ("values", 1)}
    (tmp_path / "people.csv").write_text("user_id,books\nu1,many\n")
    with pytest.raises(InputError, match=r"ingest\.other_ratings: expected names that no column .* found 'books'"):
        read(other, f"ingest.users_source={tmp_path / 'people.csv'}")
    with pytest.raises(InputError, match=r"ingest\.other_ratings: books: .*missing\.csv"):
        read(f"ingest.other_ratings={{books: {tmp_path / 'missing.csv'}}}")


def test_nobody_who_rated_elsewhere_is_known_here(
    read: Callable[..., tuple[Config, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "books.csv").write_text("user_id,item_id\nx1,b1\nx2,b1\n")
    _, told = read(f"ingest.other_ratings={{books: {tmp_path / 'books.csv'}}}")
    assert told.startswith("2 rows read; 2 new users; ")
    assert "ingest.other_ratings" in caplog.text
    assert "none of its ids is one that the ratings have" in caplog.text
