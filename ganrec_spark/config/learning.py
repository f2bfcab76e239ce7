"""The section that says when what people did changes the next run."""

from typing import Annotated

from pydantic import Field

from ganrec_spark.config.types import Count, Positive, Section, Share


class Learn(Section):
    """Explained in conf/default.yaml."""

    days: Count = 14
    kind: Annotated[str, Field(min_length=1)] = "click"
    min_events: Count = 1000
    retrain_psi: Positive = 0.25
    retrain_new_share: Share = 0.1
    fine_tune_share: Share = 0.01
    roll_back_loss: Share = 0.1
