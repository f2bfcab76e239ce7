"""Choose ALS's setting on validation users, without fill, for the gate and for the recommender alike."""

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from ganrec_spark.evaluation.choice import in_words
from ganrec_spark.evaluation.metrics import JUDGED_K
from ganrec_spark.recommenders.als.factors import factor_rows
from ganrec_spark.recommenders.als.search import AlsJudges, AlsSearch, first_setting, idle_keys
from ganrec_spark.recommenders.als.setting import AlsSetting
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Write als_choices and als_unfilled_factors, the fit of the setting that validation chooses by NDCG@10."""
    lake, judge = context.lake, AlsJudges(context)

    def score(setting: AlsSetting) -> NDArray[np.float64]:
        values = judge.ndcg(judge.fit(setting))
        context.log(f"{setting.text()}: validation NDCG@{JUDGED_K} {values.mean():.4f}")
        return values

    search = AlsSearch(context.config.als, score, idle=idle_keys(judge.train, judge.dislikes))
    best = first_setting(context.config.als) if judge.is_empty else search.best()
    lake.write("als_unfilled_factors", factor_rows(context.spark, judge.fit(best, context.config.als.iterations)))
    judge.close()
    rows = [(setting.text(), float(values.mean()), setting == best) for setting, values in search.found.items()]
    lake.write("als_choices", lake.frame("als_choices", rows or [(best.text(), None, True)]))
    return f"{in_words(asdict(best))}; {f'chosen of {len(rows)}' if rows else 'the only one'}"
