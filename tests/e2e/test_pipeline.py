"""One command from raw ratings to published lists, and again: the same tables."""

import json
import re
import subprocess

import pyarrow.parquet as pq
import pytest
from e2e.lakeside import RUN_DATE, Lakeside

from ganrec_spark.plan.members import MEMBER_NAMES, RECOMMENDERS
from ganrec_spark.plan.pipeline import STAGES
from ganrec_spark.plan.stage import Stage
from ganrec_spark.plan.tables import TABLE_BY_NAME

Published = tuple[Lakeside, list[dict[str, object]], str]


# What this world gives no reason to read: tests of the stages do.
READ_ELSEWHERE = {
    "ingest": {"feedback_events"},  # where feedback.as_ratings is set
    "sparsity": {"user_attributes"},  # where sparsity.group_by is set
    "transformer_final": {"transformer_checkpoints"},  # where little is new
    # Where the Transformer's fill is a finalist, and where it is accepted.
    **{stage: {"transformer_checkpoints", "transformer_candidates"} for stage in ("gate", "augment_final")},
    "als_choose": {"als_choices", "known_ignored"},  # without the gate's fit
    "newcomers_choose": {"validation_ratings"},  # where likeness helps
    "publish": {"rejected_ratings"},  # where a run was published before
    # Where it is known what items are alike by.
    **{f"item_item_{phase}": {"item_attributes", "item_vectors", "attribute_columns"} for phase in ("choose", "final")},
    # Where rules.shown_times, recommend.new_item_slots and recommend.variety are set.
    "recommend": {
        *("exposures", "feedback_events", "newcomers_weights", "newcomers_candidates"),
        *("item_attributes", "attribute_columns"),
    },
    "evaluate": {"newcomers_weights", "newcomers_candidates"},  # where whole items are held out
}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_the_plan_is_exact(published: Published, stage: Stage) -> None:
    """What a stage declares it uses; anything else it cannot (StageLake, config.load.restricted)."""
    lakeside, _, _ = published
    used = json.loads((lakeside.root / "used.json").read_text())[stage.name]
    always = {"run", "lake", "spark"}  # seed and session
    through_the_lake = {name for name in stage.writes if TABLE_BY_NAME[name].scope == "pointer"}
    assert set(used["write"]) == set(stage.writes) - through_the_lake
    assert set(stage.reads) - set(used["read"]) <= READ_ELSEWHERE.get(stage.name, set())
    assert set(used["section"]) - always - set(stage.config) == set()
    assert set(stage.config) - set(used["section"]) == set()


def test_metrics_cover_every_recommender_split_and_segment(published: Published) -> None:
    _, metrics, _ = published
    keys = [tuple(row[name] for name in ("recommender", "fill", "split", "segment", "metric", "k")) for row in metrics]
    assert len(keys) == len(set(keys))
    for recommender in RECOMMENDERS:
        for split in ("validation", "test"):
            for segment in ("all", "sparse", "dense"):
                for metric in ("precision", "recall", "ndcg", "mrr", "map"):
                    for k in (5, 10, 20):
                        assert (recommender, "none", split, segment, metric, k) in keys
    assert {"coverage", "gini", "novelty", "diversity"} <= {row["metric"] for row in metrics}
    assert any(str(row["segment"]).startswith("bucket:") for row in metrics)


def test_blend_is_not_below_its_best_member_on_validation(published: Published) -> None:
    _, metrics, _ = published
    ndcg = {
        row["recommender"]: row["value"]
        for row in metrics
        if (row["fill"], row["split"], row["segment"], row["metric"], row["k"])
        == ("none", "validation", "all", "ndcg", 10)
    }
    assert ndcg["blend"] >= max(ndcg[name] for name in MEMBER_NAMES) - 1e-9  # type: ignore[type-var]


def test_the_summary_says_what_a_person_wants_to_know(published: Published) -> None:
    lakeside, _, output = published
    for words in (
        "NDCG@10 on test",
        "Fill: ",
        "sparse",
        "because of",
        f"Published run: {RUN_DATE}",
        "spark-sql",
        "Report:",
    ):
        assert words in output
    assert output.count("\nUser ") == 3
    assert "(sparse," in output
    report = (lakeside.root / "reports" / f"{RUN_DATE}.html").read_text()
    assert report.count("<svg") >= 4
    assert "http-equiv" not in report
    assert "<script" not in report


def test_spark_sql_command_opens_the_views(published: Published) -> None:
    _, _, output = published
    command = output[output.index("Query them with:") :].split("\n", 1)[1].replace("\\\n", " ")
    command = re.sub(
        r"-e '.*'", "-e 'SELECT count(*), count(DISTINCT user_id) FROM published_recommendations'", command
    )
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=200, cwd="/", check=False)  # noqa: S602
    assert done.returncode == 0, done.stderr[-3000:]
    rows, users = map(int, done.stdout.split()[-2:])
    assert rows == 10 * users > 0


def test_the_sql_command_opens_a_catalog_with_a_password(published: Published) -> None:
    lakeside, _, _ = published
    secret = ("--set", "lake.properties={jdbc.password: '${GANREC_TEST_PASSWORD}'}")
    told = lakeside.ganrec("sql", *secret).stdout.strip()
    assert told.endswith('--properties-file "$f" )')
    command = told.removesuffix(" )") + " -e 'SELECT count(*) FROM published_recommendations' )"
    environment = {**lakeside.surroundings(), "GANREC_TEST_PASSWORD": "seen-by-nobody"}
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > 0


def test_a_list_and_an_item_are_explained(published: Published) -> None:
    lakeside, _, _ = published
    liked = pq.read_table(lakeside.source, filters=[("rating", "=", 5)])
    ratings = liked.sort_by("timestamp").slice(0, 1).to_pylist()[0]  # the oldest one is never held out
    told = lakeside.ganrec("explain", str(ratings["user_id"]))
    first, *rows = told.stdout.splitlines()
    assert first == f"run {RUN_DATE}: {len(rows)} items are listed", told.stderr
    listed = rows[0].split(": ")[0].split()[-1]
    told = lakeside.ganrec("explain", str(ratings["user_id"]), listed, str(ratings["item_id"]))
    lines = told.stdout.splitlines()
    assert lines[1].startswith(f"{listed} is at rank 1: ")
    assert f"{ratings['item_id']} is not listed: the user has rated it" in lines
    assert sum(line.startswith("  blend: ") for line in lines) == 2
    unknown = lakeside.ganrec("explain", "nobody at all")
    assert unknown.returncode == 3
    assert "table 'users': expected the user that was asked for, found none with that id" in unknown.stderr


def test_running_the_date_again_keeps_everything(published: Published) -> None:
    lakeside, _, _ = published
    before = lakeside.state()
    again = lakeside.pipeline()
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stderr.count(": kept in") == len(STAGES)
    assert lakeside.state() == before
    assert len(lakeside.ganrec("publications").stdout.splitlines()) == 1


def test_a_command_is_printed_for_each_stage(published: Published) -> None:
    """That they give the same tables is proven where Airflow submits them (tests/cluster/test_airflow.py)."""
    commands = published[0].ganrec("submit", "--run-date", RUN_DATE).stdout.splitlines()
    assert [command.split(" --stage ")[1].split()[0] for command in commands] == [stage.name for stage in STAGES]
