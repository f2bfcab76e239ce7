"""What a run is called: the date it is for, or DATE.N for the N-th further run of that date."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from ganrec_spark.errors import ConfigError

_FORM = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.([1-9]\d{0,3}))?")


@dataclass(frozen=True, order=True)
class RunId:
    """A run's name; of two runs the later one is the greater, which their texts do not say (.10 comes after .9)."""

    day: date
    number: int = 0

    @classmethod
    def parse(cls, text: str) -> "RunId":
        """Return the run that `text` names. Raises ConfigError where it names none."""
        found = _FORM.fullmatch(text)
        try:
            day = date.fromisoformat(found[1] if found else text)
        except ValueError:
            found = None
        if found is None:
            raise ConfigError(f"run id '{text}': expected a date, YYYY-MM-DD, or a further run of it, YYYY-MM-DD.N")
        return cls(day, int(found[2] or 0))

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        return f"{self.day}.{self.number}" if self.number else str(self.day)

    def as_of(self, moment: datetime | None) -> datetime:
        """Return the moment that the run stands at, UTC: `moment` (run.as_of), or the end of its date.

        Raises ConfigError where `moment` is not of the run's date.
        """
        begin = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        end = begin + timedelta(days=1)
        if moment is None:
            return end
        at = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if not begin < at <= end:
            raise ConfigError(
                f"run.as_of: expected a moment of the run's date {self.day} (UTC), found {at.isoformat()}; set it for "
                "each run, or leave it out for the date's end"
            )
        return at.astimezone(UTC)
