"""What a signal does to the exit code of a command that is already ending."""

import signal
import subprocess
import sys

import pytest

from tuner.core.signals import Terminated, uninterrupted

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


COMMAND = """
import os, signal, sys, time
from tuner.cli import app

def body():
{body}

app.build_app = lambda arguments: lambda standalone_mode: within()

def within():
    from tuner.cli.exit_codes import exit_codes
    with exit_codes(False, False, []):
        body()
    {after}

sys.argv = ["tuner", "status"]
app.main()
"""
TURNED = """
    try:
        os.kill(os.getpid(), signal.{name})
    except BaseException as error:
        raise ImportError("numpy.core.multiarray failed to import")
"""
FINALIZER = """
    class Late:
        def __del__(self):
            os.kill(os.getpid(), signal.{name})

    late = Late()
    del late
    time.sleep(30)
"""
ERROR_AFTER = """
    class Late:
        def __del__(self):
            os.kill(os.getpid(), signal.{name})

    late = Late()
    del late
    raise RuntimeError("dictionary changed size during iteration")
"""
EARLY = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.{name})

sys.meta_path.insert(0, Finder())
sys.argv = ["tuner", "--version"]
runpy.run_module("tuner", run_name="__main__")
"""
CODES = {"SIGINT": 130, "SIGTERM": 143}


def ended(body, after="pass"):
    code = COMMAND.format(body=body, after=after)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr and "ignored" not in done.stderr and "bug" not in done.stderr, done.stderr
    return done.returncode, done.stderr


HIDDEN = {
    "an error that a library makes of it": TURNED,
    "swallowed by a finalizer": FINALIZER,
    "swallowed, and an error right after": ERROR_AFTER,
}


@pytest.mark.parametrize("how", HIDDEN)
@pytest.mark.parametrize("name", CODES)
def test_a_signal_that_does_not_come_through_has_its_exit_code_and_is_no_bug(name, how):
    code, said = ended(HIDDEN[how].format(name=name))
    assert code == CODES[name]
    assert "What was finished is kept" in said


@pytest.mark.parametrize("name", CODES)
def test_a_signal_while_the_command_line_is_loaded_has_its_exit_code(name):
    code = EARLY.format(name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (CODES[name], "", "")


@pytest.mark.parametrize("name", CODES)
def test_a_signal_between_the_end_of_the_command_and_that_of_the_program_has_its_exit_code(name):
    assert ended("    pass", after=f"os.kill(os.getpid(), signal.{name})")[0] == CODES[name]


@pytest.mark.parametrize("name", CODES)
def test_a_second_signal_while_the_first_is_answered_ends_the_program_at_once(name):
    body = f"""
    try:
        os.kill(os.getpid(), signal.{name})
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
"""
    assert ended(body)[0] == 143


WITHIN = """
import os, signal
from tuner.core.signals import listen, uninterrupted

{before}
try:
    with uninterrupted():
        for number in {numbers}:
            os.kill(os.getpid(), number)
        print("written", flush=True)
except KeyboardInterrupt:
    print("one", flush=True)
print("after", flush=True)
"""


@pytest.mark.parametrize(
    ("before", "numbers", "code", "out"),
    [
        ("listen()", "[signal.SIGINT]", 0, "written\none\nafter\n"),
        ("signal.signal(signal.SIGINT, signal.default_int_handler)", "[signal.SIGINT]", 0, "written\none\nafter\n"),
        ("listen()", "[signal.SIGINT, signal.SIGTERM]", 143, "written\n"),
        ("", "[signal.SIGTERM]", -signal.SIGTERM, "written\n"),  # in a program of the user's, which handles none
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "[signal.SIGTERM]", 0, "written\nafter\n"),
    ],
)
def test_signals_within_what_is_written_come_after_it_as_they_would_have_come(before, numbers, code, out):
    text = WITHIN.format(before=before, numbers=numbers)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, out), done.stderr


def test_a_signal_right_before_the_others_are_held_back_leaves_every_handler(monkeypatch):
    real, before = signal.signal, signal.getsignal(signal.SIGINT)

    def interrupted(number, handler):
        if number == signal.SIGTERM:
            raise Terminated
        return real(number, handler)

    with monkeypatch.context() as patch, pytest.raises(Terminated):
        patch.setattr(signal, "signal", interrupted)
        with uninterrupted():
            pass
    assert signal.getsignal(signal.SIGINT) is before
