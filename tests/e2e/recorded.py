"""Run a job and write down which tables, and sections or keys of the configuration, each stage used.

    python tests/e2e/recorded.py RECORD.json jobs/run_pipeline.py --run-date ...

Nothing is changed but that it is watched: what is declared in the plan can then be compared with what was used.
"""

import json
import runpy
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ganrec_spark.config.sections import Config
from ganrec_spark.lake.stage_lake import StageLake
from ganrec_spark.plan.stage import Stage
from ganrec_spark.run import runner

USED: dict[str, dict[str, set[str]]] = defaultdict(lambda: {"read": set(), "write": set(), "section": set()})


class Watched(Config):
    """The configuration of one stage, which tells when a section is looked at, or a key where keys are declared."""

    def __getattribute__(self, name: str) -> Any:
        if name in Config.model_fields and name not in object.__getattribute__(self, "__dict__")["_by_key"]:
            USED[object.__getattribute__(self, "__dict__")["_stage"]]["section"].add(name)
        return super().__getattribute__(name)


def main() -> None:
    """Watch, then run the script as if it had been called by itself."""
    record, script = Path(sys.argv[1]), sys.argv[2]
    allow: Callable[..., None] = StageLake._allow
    visible = runner._visible

    def watch_tables(lake: StageLake, table: str, allowed: tuple[str, ...], verb: str) -> None:
        allow(lake, table, allowed, verb)
        USED[lake.stage][verb].add(table)

    def watch_sections(config: Config, stage: Stage) -> Config:
        own = visible(config, stage)
        by_key = {name.partition(".")[0] for name in stage.config if "." in name}
        sections = {name: getattr(own, name) for name in Config.model_fields}
        watched = {name: watch_keys(stage.name, name, sections[name]) for name in by_key}
        seen = Watched.model_construct(**sections | watched)
        seen.__dict__.update({"_stage": stage.name, "_by_key": by_key})
        return seen

    def watch_keys(stage: str, section: str, values: BaseModel) -> BaseModel:
        class Keys(type(values)):  # type: ignore[misc]
            def __getattribute__(self, name: str) -> Any:
                if name in type(values).model_fields:
                    USED[stage]["section"].add(f"{section}.{name}")
                return super().__getattribute__(name)

        return Keys.model_construct(**values.__dict__)

    StageLake._allow = watch_tables  # type: ignore[method-assign]
    runner._visible = watch_sections
    sys.argv = sys.argv[2:]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        used = {stage: {verb: sorted(names) for verb, names in verbs.items()} for stage, verbs in USED.items()}
        record.write_text(json.dumps(used), encoding="utf-8")


if __name__ == "__main__":
    main()
