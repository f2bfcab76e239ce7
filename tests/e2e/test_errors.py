"""Exit codes mean something, and a run that fails touches nothing that readers see."""

from pathlib import Path

from e2e.lakeside import LOCAL, REPOSITORY, RUN_DATE, Lakeside

Published = tuple[Lakeside, list[dict[str, object]], str]


def test_bad_configuration_ends_before_spark_starts(published: Published) -> None:
    lakeside, _, _ = published
    done = lakeside.pipeline("--set", "sparsity.max_rating=3")
    assert done.returncode == 2
    assert "sparsity.max_rating: unknown key" in done.stderr
    assert "Spark" not in done.stderr


def test_bad_input_is_one_message_with_exit_code_three(published: Published, tmp_path: Path) -> None:
    lakeside, _, _ = published
    before = lakeside.state()
    bad = tmp_path / "ratings.csv"
    bad.write_text("user_id^item_id^rating^timestamp\nu1^i1^5^1600000000\n")
    for source, words in ((bad, "delimiter"), (tmp_path / "missing.csv", "missing.csv")):
        done = Lakeside(lakeside.root, source).pipeline(run_date="2026-11-02")
        assert done.returncode == 3, done.stderr[-2000:]
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert lakeside.state() == before


def test_a_stage_without_its_inputs_names_what_to_run_first(published: Published) -> None:
    lakeside, _, _ = published
    done = lakeside.ganrec("stage", "--stage", "als_final", "--run-date", "2026-10-01")
    assert done.returncode == 4
    assert "run stage 'ingest' first" in done.stderr


def test_a_refused_run_keeps_the_published_one(published: Published) -> None:
    """The floor is set above what any list can reach: exit code 6, readers keep what they see."""
    lakeside, _, _ = published
    before = lakeside.state()["current_run"]
    publish = ("--stage", "publish", "--run-date", RUN_DATE)
    refused = lakeside.ganrec("stage", *publish, "--set", "publish.min_lift_over_popularity=1000")
    assert refused.returncode == 6
    assert "lift_over_popularity: expected at least 1000" in refused.stderr
    assert lakeside.state()["current_run"] == before
    assert lakeside.ganrec("stage", *publish).returncode == 0  # the checks' rows as they were, for the other tests
    assert lakeside.state()["current_run"] == before


def test_a_catalog_that_does_not_answer_is_one_message_without_its_password(tmp_path: Path) -> None:
    catalog = {"ADDRESS": "127.0.0.1:1/nobody", "USER": "ganrec", "PASSWORD": "known-to-nobody"}
    options = ("--config", str(REPOSITORY / "conf" / "cluster.yaml"), *LOCAL)
    environment = {f"GANREC_CATALOG_{name}": value for name, value in catalog.items()}
    lakeside = Lakeside(tmp_path, tmp_path / "none.parquet", options, environment)
    unpacked = lakeside.ganrec("publications", "--set", "spark.py_files=[dist/missing.zip]")
    assert unpacked.returncode == 2
    assert "dist/missing.zip" in unpacked.stderr
    assert "make package" in unpacked.stderr
    done = lakeside.ganrec("publications", "--set", "spark.py_files=[]")
    assert done.returncode == 4
    last = done.stderr.splitlines()[-1]
    assert "expected an answer" in last
    assert "127.0.0.1:1" in last
    assert "Traceback" not in done.stderr
    assert catalog["PASSWORD"] not in done.stdout + done.stderr
