"""Which validation users make a choice: a draw for each purpose, apart from the others where users are many.

Users who made one choice are too kind to it: what was best among them is less so among others. A choice that rests on
it has to be made by other users.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ganrec_spark.plan.members import CHOOSE, MAY_FILL

_MAKE_FILLS = (*(name for name in CHOOSE if name in MAY_FILL), "generator")
# Where models stop, members' settings, the blend's weights, its trees.
PURPOSES = (*_MAKE_FILLS, *(name for name in CHOOSE if name not in MAY_FILL), "weights", "trees")
# Judges of one choice, at most: more change little and cost time.
MOST_JUDGES = 10_000
# Of the parts that validation users are cut into, the first screens fills, the others prove.
SCREENING_PARTS = 3


def chance(purpose: str, seed: int) -> Column:
    """Return a hash of user_idx to order users by: a draw, the same wherever it is made, for this purpose alone."""
    return F.xxhash64(F.lit(purpose), F.lit(seed), F.col("user_idx"))


def draw_order(purpose: str, seed: int) -> list[Column]:
    """Return what to order users by, so that the first of them are the draw for one of PURPOSES.

    Every user belongs to one purpose, whose draw takes its own users first: two draws share users only where there are
    too few for all. What makes fills is judged by those who screen them first, so that others may prove them.
    """
    proves = [part("gate", seed, SCREENING_PARTS) != 0] if purpose in _MAKE_FILLS else []
    owner = F.pmod(chance("owner", seed), F.lit(len(PURPOSES)))
    return [*proves, owner != PURPOSES.index(purpose), chance(purpose, seed), F.col("user_idx")]


def drawn(users: DataFrame, purpose: str, seed: int, n: int = MOST_JUDGES) -> DataFrame:
    """Return the draw of at most `n` of the users, one row per user_idx, for one of PURPOSES."""
    return users.orderBy(*draw_order(purpose, seed)).limit(n)


def part(purpose: str, seed: int, parts: int) -> Column:
    """Return which of `parts` equal parts a user is in, from 0; other purposes have other parts."""
    return F.pmod(chance(purpose, seed), F.lit(parts)).cast("int")
