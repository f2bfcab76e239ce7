"""Stage report: one static HTML page with SVG figures, no scripts, nothing to download."""

from pyspark.sql import functions as F

from ganrec_spark.frames.observed import users_per_item
from ganrec_spark.lake.files import lake_root, write_file
from ganrec_spark.reporting import gather, sections
from ganrec_spark.reporting.answers import answers
from ganrec_spark.reporting.page import page
from ganrec_spark.run.context import Context


def run(context: Context) -> str:
    """Draw the page from the run's tables and write it to lake.root/reports/RUN.html."""
    read, facts = context.lake.read, gather.facts(context)
    users = read("user_sparsity")
    most = users.where("is_sparse").agg(F.max("n_ratings").alias("n")).collect()[0]["n"]
    parts = [
        sections.quality(
            facts.metrics,
            gather.rows(read("blend_weights"), "fill", "recommender"),
            gather.rows(read("variety_choices"), "strength"),
            facts.k,
        ),
        sections.gate(facts.decisions),
        sections.lists(gather.sample_lists(context.lake.lake, context.run_id, context.config)),
        sections.fairness(gather.rows(read("item_groups"))),
        sections.data(
            next(iter(gather.rows(read("matrix_profile"))), None),
            gather.histogram(users, "n_ratings"),
            gather.histogram(users_per_item(read("train_ratings")), "n"),
            int(most or 0),
            facts.rejected,
        ),
        sections.training(gather.curves(context)),
        sections.checks(facts.checks),
    ]
    text = page(context.run_id, answers(facts), parts)
    path = f"{lake_root(context.config)}/reports/{context.run_id}.html"
    write_file(path, text.encode())
    return f"wrote {path} ({len(text) // 1024} KB)"
