"""What the searches of these tests are judged with."""

import pytest

from tuner.search import importance


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """Have what mattered told by two trees: its own tests, in tests/search, have the whole forest."""
    monkeypatch.setattr(importance, "TREES", 2)
