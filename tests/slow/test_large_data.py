"""A Dataset of a million items that are made when they are read: what is read, and what is held, stays bounded."""

import json
import subprocess
import sys

import pytest

DATA = """
import torch
from torch.utils.data import Dataset

class Million(Dataset):
    reads = 0

    def __init__(self, size, held):
        self.size = size
        if held:
            self.targets = torch.arange(size) % 3

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        Million.reads += 1
        return torch.full((1, 8, 8), float(i % 3)) + (i % 1009) / 1009, i % 3

def load(held=True):
    return Million(1_000_000, held), Million(2_000, held)
"""
LOOK = """
import json, resource, sys
from pathlib import Path
import torch
from tuner.checks import measures
from tuner.checks.tools.frame import BATTERY, OF_DATA
from tuner.core.trial import TrialEnv, TrialSpec
from tuner.recipe.file import load_recipe
from tuner.train.setup import make_setup

folder = Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
recipe = load_recipe(folder / "many.toml", settings={})
setup = make_setup(TrialSpec(recipe.tables(), {}, 0), TrialEnv(folder, cache_dir=folder / "cache"))
dataset = setup.data.part("train").store.dataset
labels_read = type(dataset).reads
measures()
scan = BATTERY["data_scan"](setup)
copies = BATTERY["near_copies"](setup)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({
    "labels_read": labels_read,
    "reads": type(dataset).reads,
    "more_bytes": 1024 * (after - before),
    "scanned": scan.train.scanned,
    "counted": sum(scan.train.class_counts),
    "why": scan.no_duplicates,
    "compared": copies.train,
}))
"""


def looked(folder, held):
    (folder / "many.py").write_text(DATA)
    (folder / "many.toml").write_text(
        f'name = "many"\n[data]\nsource = "many.py:load"\nheld = {str(held).lower()}\n'
        '[model]\nname = "mlp"\n[optimizer]\nname = "sgd"\nlr = 0.1\n'
    )
    command = [sys.executable, "-c", LOOK, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_items_are_looked_at_in_part_within_bounded_memory(tmp_path):
    found = looked(tmp_path, held=True)
    assert found["labels_read"] < 1000
    assert found["scanned"] == 50_000 and found["counted"] == 1_000_000
    assert found["why"] == "only 50,000 of 1,000,000 train examples were read"
    assert found["compared"] == 10_000
    assert found["reads"] < 100_000
    assert found["more_bytes"] < 500e6


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_labels_that_a_million_items_do_not_hold_are_read_once_on_this_machine(tmp_path):
    first, second = (looked(tmp_path, held=False) for _ in range(2))
    assert 1_000_000 <= first["labels_read"] < 1_010_000
    assert second["labels_read"] < 1000
    assert first["more_bytes"] < 500e6
