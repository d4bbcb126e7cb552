"""Completion in a shell: commands, and a stage's own options."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("typed", "offered"), [("tuner co", {"coarse", "compare"}), ("tuner coarse --ep", {"--epochs"})]
)
def test_bash_is_offered_what_begins_so(typed, offered):
    code = "import sys; sys.argv = ['tuner']; from tuner.cli.app import main; main()"
    environment = {"_TUNER_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )
    assert set(done.stdout.split()) == offered, done.stderr
