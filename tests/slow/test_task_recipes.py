"""One recipe per task, each through the whole checklist, tiny (ten minutes): test has the task's score."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"
SCORES = {
    "segmentation": "balanced_accuracy",
    "tokens": "accuracy",
    "multilabel": "mean_average_precision",
    "diabetes": "r2",
    "embedding": "map",
}
TINY = ("coarse.trials=2", "coarse.epochs=1", "fine.trials=2", "fine.epochs=3", "fine.seeds=2")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SCORES)
def test_a_recipe_of_each_task_goes_through_the_checklist(name, tmp_path):
    options = [text for key in TINY for text in ("--set", f"stages.{key}")]
    for command in ("run", "test"):
        words = [command, str(RECIPES / f"{name}.toml"), "--run-dir", str(tmp_path / "run"), "--force", *options]
        done = subprocess.run([sys.executable, "-m", "tuner", *words], capture_output=True, text=True, timeout=1700)
        assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-2000:]
    metrics = {
        stage: json.loads((tmp_path / "run" / stage / "result.json").read_text())["metrics"]
        for stage in ("check-init", "coarse", "fine", "diagnose", "test")
    }
    assert {metrics[stage]["score_name"] for stage in ("coarse", "fine", "diagnose", "test")} == {SCORES[name]}
    assert all(metrics[stage]["score"] is not None for stage in ("coarse", "fine", "diagnose", "test"))
    low, high = metrics["test"]["interval"]
    assert low <= metrics["test"]["score"] <= high
    if name in ("multilabel", "diabetes", "embedding"):
        assert metrics["coarse"]["best_val_accuracy"] is None and metrics["test"]["accuracy"] is None
