"""Files that a stranger may have made: what is read of them, and what is refused."""

import os

import pytest

from tuner.core.errors import InputError
from tuner.core.safe_files import cell, check_levels, is_trusted, kind_problem, parse_json, read_regular, refuse_links


def test_a_regular_file_is_read_and_nothing_else(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(tmp_path / "file") == b"content"
    for name in ("link", "pipe", "."):
        with pytest.raises(OSError):
            read_regular(tmp_path / name)


@pytest.mark.parametrize("text", ["1e999", "-1E400", f"{'9' * 400}.0", "NaN", "[Infinity]", '{"a": -Infinity}'])
def test_a_number_that_is_not_finite_is_refused(text):
    with pytest.raises(ValueError, match="no finite number"):
        parse_json(text.encode())


@pytest.mark.parametrize(("text", "value"), [("1e99", 1e99), ("[1.5E-300]", [1.5e-300]), ('{"name": 1}', {"name": 1})])
def test_ordinary_numbers_are_read(text, value):
    assert parse_json(text.encode()) == value


def test_nesting_is_bounded():
    check_levels(parse_json(b"[" * 40 + b"]" * 40))
    with pytest.raises(ValueError, match="nested more than 40 levels deep"):
        check_levels(parse_json(b"[" * 42 + b"]" * 42))
    with pytest.raises(ValueError, match="nested without end"):
        parse_json(b"[" * 100_000)


def test_links_in_a_run_folder_are_refused_and_the_folder_itself_may_be_one(tmp_path):
    run = tmp_path / "run"
    (run / "coarse").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(run)
    refuse_links(tmp_path / "runs")
    (run / "coarse" / "curves").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"runs/coarse/curves: is a link; tuner writes and deletes nothing through"):
        refuse_links(tmp_path / "runs")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+x", "'+x"),
        ("-x", "'-x"),
        ("@sum", "'@sum"),
        ("\tx", "'\tx"),
        ("adam", "adam"),
        (-0.5, -0.5),
    ],
)
def test_a_text_that_a_spreadsheet_would_compute_is_quoted(value, written):
    assert cell(value) == written


def test_a_file_that_others_can_write_is_not_trusted(tmp_path):
    path = tmp_path / "file"
    path.touch()
    for mode, trusted in [(0o644, True), (0o600, True), (0o664, False), (0o646, False)]:
        path.chmod(mode)
        assert is_trusted(path) is trusted
    path.chmod(0o644)
    (tmp_path / "link").symlink_to(path)
    assert not is_trusted(tmp_path / "link") and not is_trusted(tmp_path / "missing")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to somebody else")
def test_a_file_of_somebody_else_is_not_trusted(tmp_path):
    path = tmp_path / "file"
    path.touch(0o644)
    os.chown(path, 12345, -1)
    assert not is_trusted(path)


def test_kinds_are_checked_by_key():
    assert kind_problem({"a": 1, "b": None}, {"a": int, "b": (str, type(None))}) is None
    assert kind_problem({"a": True}, {"a": int}) == "a is True"
    assert kind_problem({}, {"a": int}) == "it has no 'a'"
