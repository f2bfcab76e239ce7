"""Packaging: an installable wheel (`pip wheel --no-deps .`) with the console script `ganrec`.

Horovod and petastorm are not among its requirements, because pip cannot install them beside torch: Horovod's
release does not build against it, petastorm's pin of setuptools contradicts it. `make env` installs both; elsewhere
follow docs/adr/0001-environment.md.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """Read the version's one place without importing the package, which may not be importable yet."""
    text = (HERE / "ganrec_spark" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


def requirements() -> list[str]:
    """Return what the lock is compiled from, so that wheel and lock cannot drift apart."""
    lines = (HERE / "requirements" / "runtime.in").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "petastorm"))]


readme = HERE / "README.md"

setup(
    name="ganrec_spark",
    version=version(),
    description="Sparsity-aware batch recommendations on Apache Spark",
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.12",
    # conf/ stands at the top of the checkout, where people look for it, and inside the package in the wheel.
    packages=[*find_packages(include=["ganrec_spark", "ganrec_spark.*"]), "ganrec_spark.conf"],
    package_dir={"ganrec_spark.conf": "conf"},
    package_data={"ganrec_spark": ["sizing.json"], "ganrec_spark.conf": ["*.yaml"]},
    install_requires=requirements(),
    entry_points={"console_scripts": ["ganrec = ganrec_spark.cli.main:main"]},
)
