"""Choose ALS's setting on validation users, without fill, for the gate and for the recommender alike."""

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.evaluation.choice import in_words
from ganrec_spark.evaluation.metrics import JUDGED_K
from ganrec_spark.recommenders.als.factors import factor_rows
from ganrec_spark.recommenders.als.search import AlsJudges, AlsSearch, first_setting, idle_keys
from ganrec_spark.recommenders.als.setting import AlsSetting
from ganrec_spark.recommenders.als.warm_start import go_on
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write als_choices and als_unfilled_factors, the fit of the setting that validation chooses by NDCG@10.

    Or of the published run's setting, from its vectors, where warm_start.when says so and validation does not object.
    """
    lake, judge = context.lake, AlsJudges(context)
    kept, why = go_on(context, judge)
    rows: list[tuple[object, ...]]
    base = None if kept is None else kept.base_run_id
    if kept is None:
        search = _search(context, judge)
        best = first_setting(context.config.als) if judge.is_empty else search.best()
        fitted = judge.fit(best, context.config.als.iterations)
        rows = [(setting.text(), float(values.mean()), setting == best) for setting, values in search.found.items()]
        how = f"chosen of {len(rows)}" if rows else "the only one"
    else:
        best, fitted = kept.setting, kept.fitted
        rows = [(best.text(), kept.ndcg, True)]
        how = f"went on from run {base}, validation NDCG@{JUDGED_K} {kept.ndcg:.4f}"
    lake.write("als_unfilled_factors", factor_rows(context.spark, fitted))
    judge.close()
    rows = [(*row, base) for row in rows or [(best.text(), None, True)]]
    lake.write("als_choices", lake.frame("als_choices", rows))
    told = in_words({key: value for key, value in asdict(best).items() if key != "implicit"})
    return f"{told}; {how}{f'; trained anew: {why}' if why else ''}"


def _search(context: Context, judge: AlsJudges) -> AlsSearch:
    def score(setting: AlsSetting) -> NDArray[np.float64]:
        values = judge.ndcg(judge.fit(setting))
        context.log(f"{setting.text()}: validation NDCG@{JUDGED_K} {values.mean():.4f}")
        return values

    return AlsSearch(context.config.als, score, idle=idle_keys(judge.train, judge.dislikes, judge.ignored))
