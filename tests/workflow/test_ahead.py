"""What later steps import is imported while the workers of a run start."""

import subprocess
import sys


def test_libraries_of_later_steps_are_imported_in_a_thread():
    code = (
        "import sys, threading; from tuner.workflow import ahead; ahead.import_ahead();"
        "[thread.join() for thread in threading.enumerate() if thread.name == 'tuner-imports'];"
        "print([name for name in ahead.LIBRARIES if name not in sys.modules], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False"], "and no torch, which this process never needs"


def test_a_library_that_is_not_there_is_left_to_whoever_needs_it():
    code = "from tuner.workflow import ahead; ahead.LIBRARIES = ('no_such_library',); ahead.import_ahead()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
