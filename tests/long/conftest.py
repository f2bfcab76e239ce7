"""The published run of the end-to-end tests, to compare with."""

from e2e.conftest import digests, published, source

__all__ = ["digests", "published", "source"]
