"""What tests share that end commands by force: longer searches, the run that nothing happened to, the sums."""

import shutil
import subprocess
import sys
import time

from tests.conftest import RECIPE
from tests.equal import compared

RUN = ("run", "small.toml", "--through", "fine", "--quiet")


def search(coarse, fine):
    """The small recipe with other trials and epochs of its two searches."""
    changed = RECIPE
    for before, (trials, epochs) in (("trials = 2\nepochs = 2\n", coarse), ("trials = 2\nepochs = 3\n", fine)):
        assert before in changed
        changed = changed.replace(before, f"trials = {trials}\nepochs = {epochs}\n")
    return changed


SEARCH = search((8, 6), (4, 12))


def undisturbed(folder, recipe, *arguments):
    """Run a recipe to its end in a folder; return the run's folder."""
    (folder / "small.toml").write_text(recipe)
    command = [sys.executable, "-m", "tuner", *RUN, *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "runs/small"


def whole_and_begun(folder, recipe, *arguments):
    """Run a recipe with two workers, and `arguments`; return its folder, and a copy as it was before the searches."""
    whole, begun = folder / "whole", folder / "begun"
    whole.mkdir()
    undisturbed(whole, recipe, "--workers", "2", "--through", "lr-sweep", *arguments)
    shutil.copytree(whole, begun)
    undisturbed(whole, recipe, "--workers", "2", *arguments)
    return whole, begun


def summed(kills, runs, whole, began):
    """Say what was killed, and that all runs were equal to the whole one; `began`: by time.monotonic."""
    hit = ", ".join(f"{count} {target}" for target, count in sorted(kills.items()))
    seconds = time.monotonic() - began
    equal = f"all equal in {len(compared(whole))} files"
    return f"\n{kills.total()} kills ({hit}) in {runs} runs, {equal}; {seconds:.0f} s"
