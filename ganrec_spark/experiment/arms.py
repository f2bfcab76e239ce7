"""Which arm of the experiment a user is in: a salted hash of their id against the arms' shares.

Nothing is stored: the same salt gives the same arm in every run, in Spark, in Python and in a client. In words: of the
SHA-256 of `SALT:USER_ID` (UTF-8) the first 13 hexadecimal digits, divided by 16^13, are the user's place in [0, 1). The
arms, in the order of their names, share this line among them by their shares; the user's arm is the one that their
place falls into. In the order of names, not of the configuration: what is moved there moves nobody.
"""

import hashlib
from itertools import accumulate

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.config.lists import Experiment

_DIGITS = 13  # 52 bits, which a double holds exactly
_PLACES = float(16**_DIGITS)


def place_of(user_id: str, salt: str) -> float:
    """Return the user's place in [0, 1)."""
    return int(hashlib.sha256(f"{salt}:{user_id}".encode()).hexdigest()[:_DIGITS], 16) / _PLACES


def upper_ends(experiment: Experiment) -> list[tuple[str, float]]:
    """Return each arm with the place where its part of the line ends, in the order of names; the last one's is 1."""
    arms = sorted(experiment.arms, key=lambda arm: arm.name)
    ends = [*accumulate(arm.share for arm in arms[:-1]), 1.0]
    return [(arm.name, end) for arm, end in zip(arms, ends, strict=True)]


def arm_of(user_id: str, experiment: Experiment) -> str:
    """Return the name of the user's arm."""
    place = place_of(user_id, experiment.salt)
    return next(name for name, end in upper_ends(experiment) if place < end)


def arm_column(user_id: Column, experiment: Experiment) -> Column:
    """Return the name of the arm of the user whose id, as in table users, is in a column; as `arm_of` does."""
    *first, (last, _) = upper_ends(experiment)
    if not first:
        return F.lit(last)
    digest = F.sha2(F.concat(F.lit(f"{experiment.salt}:"), user_id), 256)
    place = F.conv(F.substring(digest, 1, _DIGITS), 16, 10).cast("double") / F.lit(_PLACES)
    name, end = first[0]
    arm = F.when(place < F.lit(end), name)
    for name, end in first[1:]:
        arm = arm.when(place < F.lit(end), name)
    return arm.otherwise(F.lit(last))


def with_arms(rows: DataFrame, users: DataFrame, experiment: Experiment) -> DataFrame:
    """Return the rows, one per user_idx, with column `arm`. In: table users, which has their ids."""
    if len(experiment.arms) == 1:
        return rows.withColumn("arm", arm_column(F.lit(""), experiment))
    arms = users.select("user_idx", arm_column(F.col("user_id"), experiment).alias("arm"))
    return rows.join(arms, "user_idx")
