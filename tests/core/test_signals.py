"""What a signal does to the exit code of a command that is already ending."""

import subprocess
import sys

import pytest

LATE = """
import os, signal, sys
from tuner.core.signals import listen

class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.{name}):
        kill(pid, number)

listen()
late = Late()  # dies while the interpreter shuts down, when Python's own handlers are gone
sys.exit(130)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_the_interpreter_shuts_down_leaves_the_exit_code(name):
    done = subprocess.run([sys.executable, "-c", LATE.format(name=name)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")
