"""The synthetic run that the tests of the view read."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tests.view.view_fixtures import MAKERS


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every stage's result.json and curves; tests must not change it."""
    run = tmp_path_factory.mktemp("runs") / "example"
    for stage, make in MAKERS.items():
        (run / stage).mkdir(parents=True, exist_ok=True)
        (run / stage / "result.json").write_text(json.dumps(make(run / stage), allow_nan=False))
    return run
