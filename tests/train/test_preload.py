"""What a trial's process finds loaded: a module that each of them loads for itself costs every trial its time."""

import subprocess
import sys

import numpy as np

CODE = """
import sys
from pathlib import Path
from tuner.core.trial import TABLES, TrialEnv, TrialSpec, WorkItem
from tuner.recipe.model import Recipe
import tuner.execute.preload
from tuner.train.trial import run_trial

folder = Path(sys.argv[1])
data = {"source": "npz", "path": str(folder / "data.npz"), "normalize": "none"}
tables = Recipe.model_validate({"name": "p", "data": data, "model": {"name": "convnet"}}).tables()
env = TrialEnv(folder, folder, cache_dir=folder / "cache")
known = set(sys.modules)
for number, (subset, measure) in enumerate(((False, {}), (True, {"val_predictions": {}}))):
    spec = TrialSpec({name: tables[name] for name in TABLES}, {}, 0, 1, train_subset=subset, measure=measure)
    result = run_trial(WorkItem(spec, number), env)
    assert result.status == "completed", result
print(sorted(name for name in set(sys.modules) - known if not name.startswith("encodings.")))
"""


def test_a_trial_of_a_search_loads_nothing_that_the_server_has_not(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 40), ("val", 20), ("test", 20)):
        arrays[f"x_{split}"] = generator.random((n, 1, 8, 8), dtype=np.float32)
        arrays[f"y_{split}"] = np.arange(n) % 4
    np.savez(tmp_path / "data.npz", **arrays)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
