"""Packaging: `pip install .` or `python setup.py bdist_wheel`; the console script is `ganrec`.

Horovod is left out of the requirements on purpose: its release does not build against our torch (see
scripts/build_horovod.py), and a plain `pip install` must not try. `make env` installs the patched wheel.
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
    """Return what `make lock` starts from, so that wheel and lock cannot drift apart."""
    lines = (HERE / "requirements" / "runtime.in").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


readme = HERE / "README.md"

setup(
    name="ganrec_spark",
    version=version(),
    description="Sparsity-aware batch recommendations on Apache Spark",
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.12",
    packages=find_packages(include=["ganrec_spark", "ganrec_spark.*"]),
    package_data={"ganrec_spark": ["py.typed"]},
    install_requires=requirements(),
    entry_points={"console_scripts": ["ganrec = ganrec_spark.cli:main"]},
)
