"""What the steps of a run import later, imported while its workers start: the one time that this process only waits."""

from __future__ import annotations

import contextlib
import importlib
import threading

LIBRARIES = ("matplotlib.figure", "matplotlib.backends.backend_agg", "optuna", "sklearn.tree", "scipy.special")


def import_ahead() -> None:
    """Begin to import what plots, samplers and importance need, in a thread; a user waits 1.5 s less for them."""
    threading.Thread(target=_import_all, name="tuner-imports").start()


def _import_all() -> None:
    for name in LIBRARIES:
        with contextlib.suppress(Exception):  # whoever needs it says what is wrong with it
            importlib.import_module(name)
