"""Every error a user can meet, each with the exit code that its process ends with.

A message says where (table, file or key), what was expected, what was found, and what to do.
"""


class GanrecError(Exception):
    """Base of all expected failures; `exit_code` is the exit code of the process."""

    exit_code = 1


class ConfigError(GanrecError):
    """A configuration key is unknown, of the wrong type or out of range. Nothing was started."""

    exit_code = 2


class InputError(GanrecError):
    """The ratings cannot be used: missing, empty, unreadable, or too many rows rejected."""

    exit_code = 3


class LakeError(GanrecError):
    """A table is missing what a stage needs, or a stage touched a table it did not declare."""

    exit_code = 4


class StoreError(LakeError):
    """The object store that the lake lies in does not answer or refuses us: nothing can be written there, either."""


class TrainingError(GanrecError):
    """Training could not start, stalled, or ended without a usable checkpoint."""

    exit_code = 5


class QualityError(GanrecError):
    """The run failed its quality checks and was not published; what was published stays."""

    exit_code = 6
