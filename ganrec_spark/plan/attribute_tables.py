"""Tables of what is known of users and items besides ratings."""

from ganrec_spark.plan.table import Table, columns

_VALUE = """
    name string: column of the source
    value string: the category, one of several values, the text, the day of a date; NULL: a number
    number double: the number; of a date days since 1970
"""


def _values(role: str) -> Table:
    return Table(
        f"{role}_attributes",
        f"one value of one {role}; a column of several values has several rows, one without a value none",
        (),
        columns(f"{role}_idx int: dense index of the {role} in table {role}s" + _VALUE),
    )


ATTRIBUTE_TABLES: tuple[Table, ...] = (
    _values("user"),
    _values("item"),
    Table(
        "item_vectors",
        "one vector of one item, such as an image's or a text's",
        ("item_idx", "modality"),
        columns("""
            item_idx int: dense index of the item in table items
            modality string: column of the source; all its vectors have one length
            vector array<float>: as the source has it
        """),
    ),
    Table(
        "attribute_columns",
        "one column of a source of attributes, and what it was taken for",
        ("role", "name"),
        columns("""
            role string: user or item
            name string: column of the source
            kind string: category, values, number, date, text, vector, or none: it is not used
            guessed_by string: what the kind was guessed by; empty: ingest.user_columns or item_columns says so
            sensitive boolean: whether reports alone may use it (ingest.sensitive)
            n_given bigint: rows that have a value
            n_unusable bigint: of them those whose value is not of the kind; it counts as missing
        """),
    ),
    Table(
        "rejected_attributes",
        "one row of a source of attributes that was not used, and the rule that it broke",
        (),
        columns("""
            rule string: malformed_row, missing_id, bad_encoding, inexact_id, duplicate_id (another of the id counts)
            file string: file the row came from
            row string: the row as JSON, values as read
        """),
    ),
)
