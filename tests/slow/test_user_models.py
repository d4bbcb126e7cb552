"""Models of other libraries, each in a custom file of at most 25 lines, through the whole checklist (tiny)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MODELS = Path(__file__).parent / "models"
RECIPE = """
name = "{name}"
[data]
source = "{name}.py:load"
{data}
[loss]
name = "{loss}"
[model]
name = "{name}.py:{model}"
[optimizer]
name = "adam"
lr = 3e-3
[train]
batch_size = {batch_size}
[search]
"optimizer.lr" = "auto"
"model.width" = {{ choices = [16, 32] }}
[stages]
coarse = {{ trials = 2, epochs = 2 }}
fine = {{ trials = 2, epochs = 4, seeds = 2 }}
"""
# name of the file: (what builds the model, lines of [data], the loss, batch size, the least score that is learnt)
CASES = {
    "bert": ("build", 'collate = "bert.py:collate"', "model", 32, 0.6),
    "fcn": ("build", "", "cross_entropy", 16, 0.8),
    "lstm": ("Reader", 'collate = "lstm.py:collate"', "cross_entropy", 32, 0.8),
    "gpt": ("GPT", 'task = "classification"', "model", 32, 0.5),
    "graph": ("GCN", "", "cross_entropy", 360, 0.5),
}


@pytest.mark.parametrize("name", CASES)
def test_a_custom_file_has_at_most_25_lines(name):
    lines = [line for line in (MODELS / f"{name}.py").read_text().splitlines() if line.strip()]
    assert 10 < len(lines) <= 25


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CASES)
def test_a_model_of_another_library_goes_through_the_checklist(name, tmp_path):
    if name == "bert":
        pytest.importorskip("transformers")
    model, data, loss, batch_size, least = CASES[name]
    (tmp_path / f"{name}.py").write_text((MODELS / f"{name}.py").read_text())
    recipe = tmp_path / f"{name}.toml"
    recipe.write_text(RECIPE.format(name=name, model=model, data=data, loss=loss, batch_size=batch_size))
    for command in ("run", "test"):
        words = [sys.executable, "-m", "tuner", command, str(recipe), "--run-dir", str(tmp_path / "run"), "--quiet"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=1700)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads((tmp_path / "run" / "test" / "result.json").read_text())
    assert result["metrics"]["score_name"] == "accuracy" and result["metrics"]["score"] > least
