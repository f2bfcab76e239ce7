"""What a stage of the pipeline is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline, run by `ganrec_spark.stages.<module>.run`.

    `phase`: choose or final, of stages that run in both (plan.phased). `config` names the sections of the configuration
    that may change the stage's result, or single keys (`recommend.n_candidates`); the stage sees no others.
    `needs_sparse_users` stages are skipped (and say so) where matrix_profile calls for no filling.
    `profile` tells a cluster what the stage needs: sql, training or scoring.
    """

    name: str
    module: str
    doc: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    config: tuple[str, ...]
    phase: str | None = None
    needs_sparse_users: bool = False
    profile: str = "sql"
