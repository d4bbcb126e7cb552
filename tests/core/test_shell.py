"""Commands that are printed for a person to type."""

import shlex
import subprocess

import pytest

from tuner.core.shell import broken_lines, line_of

WORDS = ["tuner", "run", "my recipes/a b.toml", "--set", "name='x y'", "--run-dir", r"C:\runs\a"]


def test_a_shell_splits_a_line_into_its_words():
    assert shlex.split(line_of(WORDS, windows=False)) == WORDS


def test_on_windows_paths_are_not_put_into_single_quotes_which_no_shell_there_knows():
    line = line_of(["tuner", "run", r"recipes\digits.toml", "--run-dir", r"my runs\a"], windows=True)
    assert (
        line
        == r'tuner run recipes\digits.toml --run-dir "my runs\a"'
        == subprocess.list2cmdline(["tuner", "run", r"recipes\digits.toml", "--run-dir", r"my runs\a"])
    )


def test_a_long_command_is_broken_where_a_shell_goes_on():
    lines = broken_lines(line_of(WORDS, windows=False), 40, windows=False)
    assert len(lines) > 1 and max(map(len, lines)) <= 40
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == WORDS  # as a shell reads them


@pytest.mark.parametrize("command", [line_of(WORDS, windows=True), line_of(["tuner", *["word"] * 40], windows=True)])
def test_on_windows_a_long_command_stays_one_line(command):
    assert broken_lines(command, 40, windows=True) == [command]
