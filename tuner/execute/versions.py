"""What machines that share a run must have alike, for equal results."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import tuner

FIX = "Install the same Python and tuner on every machine."


def versions() -> dict[str, str]:
    """Return the versions of Python, tuner and torch."""
    found = {"Python": platform.python_version(), "tuner": tuner.__version__}
    try:
        found["torch"] = version("torch")
    except PackageNotFoundError:
        found["torch"] = "not installed"
    return found


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Return what differs: `Python 3.12.1 (here 3.11.4)`; empty where nothing does."""
    known = {name: there.get(name, "unknown") for name in here}
    return ", ".join(f"{name} {known[name]} (here {here[name]})" for name in here if known[name] != here[name])
