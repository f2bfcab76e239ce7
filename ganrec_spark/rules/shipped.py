"""Rules on their way to executors: table list_rules as arrays by item, and as lists by user."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ganrec_spark.config.lists import Rules
from ganrec_spark.frames.ship import Shipped, ship
from ganrec_spark.rules.keeping import (
    AVAILABLE,
    BLOCKED,
    BOOSTED,
    CATEGORY,
    EXCLUDED,
    PER_USER,
    SHOWN,
    Categories,
    ListRules,
)


def rules_set(settings: Rules) -> tuple[str, ...]:
    """Return which rules are set, in the order of rules.keeping.RULES."""
    given = {
        EXCLUDED: settings.excluded_pairs,
        SHOWN: settings.shown_times,
        AVAILABLE: settings.available_items,
        BLOCKED: settings.blocked_items,
        BOOSTED: settings.boosted_items,
        CATEGORY: settings.item_categories,
    }
    return tuple(rule for rule, value in given.items() if value is not None)


@dataclass(frozen=True)
class ShippedRules:
    """The rules that are set; small, travels in a closure, opens its arrays where it arrives."""

    names: tuple[str, ...] = ()
    most: int = 0
    facts: Shipped | None = None

    @property
    def per_user(self) -> tuple[str, ...]:
        """The rules of which each user has items of their own."""
        return tuple(rule for rule in PER_USER if rule in self.names)

    def opened(self) -> ListRules:
        """Return the rules with their arrays."""
        facts = self.facts
        if facts is None:
            return ListRules()
        lifted = {rule: facts[rule] for rule in (AVAILABLE, BLOCKED) if rule in self.names}
        factors = facts["factors"] if BOOSTED in self.names else None
        categories = Categories(facts["starts"], facts["codes"], self.most) if CATEGORY in self.names else None
        return ListRules(self.names, lifted, factors, categories)


def ship_rules(
    spark: SparkSession, settings: Rules, rows: DataFrame, catalogue: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], ShippedRules]:
    """Return which items [I] may be listed by the rules on items alone, and the rules, shipped.

    In: rows of list_rules, and which items are of the catalogue [I]. Driver memory: a few numbers per item.
    """
    names = rules_set(settings)
    if not names:
        return catalogue, ShippedRules()
    slots = len(catalogue)
    per_item = rows.where(F.col("user_idx").isNull() & (F.col("item_idx") < slots))
    table = per_item.select("rule", "item_idx", "category", "factor").orderBy("item_idx", "category").toPandas()

    def of(rule: str) -> pd.DataFrame:
        return table[table["rule"] == rule]

    def marked(rule: str) -> NDArray[np.bool_]:
        mask = np.zeros(slots, dtype=np.bool_)
        mask[of(rule)["item_idx"].to_numpy(dtype=np.int64)] = True
        return mask

    unbarred = ~marked(BLOCKED)
    available = marked(AVAILABLE) if AVAILABLE in names else np.ones(slots, dtype=np.bool_)
    factors = np.ones(slots)
    factors[of(BOOSTED)["item_idx"].to_numpy(dtype=np.int64)] = of(BOOSTED)["factor"].to_numpy(dtype=np.float64)
    categories = of(CATEGORY)
    counts = np.bincount(categories["item_idx"].to_numpy(dtype=np.int64), minlength=slots)
    facts = ship(
        spark,
        **{AVAILABLE: catalogue & unbarred, BLOCKED: catalogue & available},
        factors=factors,
        starts=np.concatenate([[0], np.cumsum(counts)]),
        codes=pd.factorize(categories["category"])[0].astype(np.int32),
    )
    return catalogue & available & unbarred, ShippedRules(names, settings.max_per_category or 0, facts)


def with_barred(users: DataFrame, rows: DataFrame, rules: ShippedRules, items: DataFrame) -> DataFrame:
    """Return the users with a column of items, ascending, for each of `rules.per_user`; NULL where there are none.

    In: rows of list_rules; of `items` (item_idx) those that lists could have.
    """
    for rule in rules.per_user:
        own = rows.where(F.col("rule") == rule).join(items, "item_idx", "left_semi").groupBy("user_idx")
        users = users.join(own.agg(F.sort_array(F.collect_set("item_idx")).alias(rule)), "user_idx", "left")
    return users
