"""The packages that are installed."""

from __future__ import annotations

import functools
from importlib import metadata


@functools.cache
def version_of(package: str) -> str:
    """Return the version of an installed package, read once: parsing what pip has written takes 5 ms.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    return metadata.version(package)
