"""Sparsity-aware batch recommendations on Apache Spark."""

from ganrec_spark.blas import choose_kernels

__version__ = "0.1.0"

choose_kernels()
