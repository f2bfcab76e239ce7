"""Which settings of item_item are tried: those of the configuration, and which one lies beyond its edge."""

from collections.abc import Collection

from ganrec_spark.config.models import ItemItem
from ganrec_spark.recommenders.item_item.fit import ItemItemSetting

LAMBDA, RANK = "ease_regularisation", "gfcf_rank"
_MOST_LAMBDAS, _LEAST_RANK = 7, 16
_SHORTEST = 0.25  # half-life of histories


def methods(config: ItemItem, n_items: int) -> tuple[str, ...]:
    """Return the methods to try: in auto all whose matrices of so many items the driver is allowed to hold."""
    if config.method != "auto":
        return (config.method,)
    limits = {"ease": config.max_exact_items, "rp3beta": n_items, "gfcf": config.max_graph_items}
    return tuple(method for method, limit in limits.items() if n_items <= limit)


def grid(config: ItemItem, tried: Collection[str]) -> list[ItemItemSetting]:
    """Return the settings of the methods in `tried`, named as in the configuration."""
    settings: dict[str, list[ItemItemSetting]] = {
        "ease": [{LAMBDA: value} for value in config.ease_regularisation],
        "rp3beta": [{"rp3_alpha": config.rp3_alpha, "rp3_beta": beta} for beta in config.rp3_beta],
        "gfcf": [{RANK: config.gfcf_rank, "gfcf_weight": weight} for weight in config.gfcf_weight],
    }
    return [{"method": method, **setting} for method in settings if method in tried for setting in settings[method]]


def shorter(best: float | None, tried: Collection[float | None]) -> float | None:
    """Return half of the best half-life where that is the shortest tried, down to 0.25, else None."""
    shortest = min((value for value in tried if value is not None), default=None)
    return best / 2 if best is not None and best == shortest and best / 2 >= _SHORTEST else None


def half_the_rank(best: int, tried: Collection[int]) -> int | None:
    """Return half of the best rank where that is the lowest tried, down to 16, else None."""
    return best // 2 if best == min(tried) and best // 2 >= _LEAST_RANK else None


def next_lambda(best: float, tried: Collection[float]) -> float | None:
    """Return EASE's next lambda: beyond the best one, as far as its neighbour is, at most tenfold.

    None where the best has neighbours on both sides, where there is only one, and after seven.
    """
    order = sorted(tried)
    if not 1 < len(order) < _MOST_LAMBDAS or best not in (order[0], order[-1]):
        return None
    step = order[0] / order[1] if best == order[0] else order[-1] / order[-2]
    return best * min(max(step, 0.1), 10.0)
