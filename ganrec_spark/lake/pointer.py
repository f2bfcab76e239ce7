"""Show an edition to readers, whoever else publishes meanwhile."""

from ganrec_spark.errors import LakeError
from ganrec_spark.lake.publication import base_of
from ganrec_spark.lake.store import Lake
from ganrec_spark.plan.run_id import RunId

_TRIES = 10


def show(lake: Lake, run_id: str, edition: str) -> str:
    """Point readers to the edition unless a newer run is published, whoever else publishes meanwhile; say which."""
    for _ in range(_TRIES):
        shown = lake.published()
        if shown.run_id is not None and RunId.parse(shown.run_id) > RunId.parse(run_id):
            return f"run {shown.run_id} is newer and stays published (`ganrec rollback --to {run_id}` points back)"
        if (shown.run_id, base_of(shown.edition or "")) == (run_id, edition):  # maybe with lists refreshed since
            return "already published"
        if lake.point_to(run_id, edition, instead=shown):
            return f"published edition {edition}"
    raise LakeError(
        f"table 'current_run', run '{run_id}': expected to move the pointer, found it moved by others at each of "
        f"{_TRIES} tries; run stage publish again"
    )
