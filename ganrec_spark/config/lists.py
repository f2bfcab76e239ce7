"""What is listed to whom: arms of an experiment."""

from math import fsum
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from ganrec_spark.config.types import Choices, Section
from ganrec_spark.plan.members import MEMBER_NAMES, POPULARITY, in_words

PUBLISHED, NO_FILL = "published", "no_fill"
LISTED = (PUBLISHED, NO_FILL, POPULARITY, *MEMBER_NAMES)


def _listed(name: str) -> str:
    if name not in LISTED:
        raise ValueError(f"expected {in_words(LISTED)}")
    return name


class Arm(Section):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    share: Annotated[float, Field(gt=0, le=1)]
    lists: Annotated[str, AfterValidator(_listed)]


class Experiment(Section):
    salt: Annotated[str, Field(min_length=1)] = "1"
    arms: Choices[Arm] = (Arm(name="published", share=1.0, lists=PUBLISHED),)

    @model_validator(mode="after")
    def _whole(self) -> "Experiment":
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"names of arms must differ, found {', '.join(names)}")
        total = fsum(arm.share for arm in self.arms)
        if abs(total - 1) > 1e-9:
            raise ValueError(f"shares of arms must sum to 1, found {total:g}")
        return self

    @property
    def is_default(self) -> bool:
        """Whether everyone is listed the blend, as without an experiment."""
        return self.arms == Experiment().arms
