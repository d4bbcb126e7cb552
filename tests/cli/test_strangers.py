"""A run folder that a stranger made is data: nothing is written outside it, nothing in it reaches the terminal raw."""

import json

import pytest

from tests.conftest import refused


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_trials_id_that_is_a_path_writes_nothing(finished, command):
    trials = finished / "runs/small/coarse/trials.jsonl"
    (finished / "runs/small/coarse/manifest.json").unlink()
    lines = trials.read_text().splitlines()
    first = json.loads(lines[0])
    first["result"]["id"] = "../../../pwned"
    trials.write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    done = command("coarse", "small.toml")
    assert done.code == 3 and "coarse/trials.jsonl:1: not a finished trial (its id is '../../../pwned'" in done.err
    assert not list(finished.rglob("pwned*")) and not list(finished.parent.glob("pwned*"))


@pytest.mark.parametrize("name", ["coarse/checkpoints", "coarse/curves", "coarse/trials.jsonl", "lock", "fine"])
def test_nothing_behind_a_link_is_touched(finished, command, name):
    outside = finished / "outside"
    outside.mkdir()
    precious = outside / "precious.pt"
    precious.write_text("content")
    link = finished / "runs/small" / name
    if link.is_dir():
        link.rename(finished / "moved")
    else:
        link.unlink()
    link.symlink_to(outside if "." not in name and name != "lock" else precious)
    refused(
        command("coarse", "small.toml", "--fresh"), 3, f"runs/small/{name}: is a link; tuner writes and deletes nothing"
    )
    assert precious.read_text() == "content" and list(outside.iterdir()) == [precious]


@pytest.mark.parametrize("arguments", [("status",), ("status", "small.toml"), ("report", "small.toml")])
def test_escape_sequences_of_a_manifest_do_not_reach_the_terminal(finished, command, arguments):
    def spoil(manifest):
        manifest["recipe"] = "\x1b[2J\x1b]0;owned\x07nowhere.toml"
        manifest["tables"]["model.\x1b[31mwidth"] = "\x1b[2J"

    for stage in ("check-init", "coarse", "fine"):
        edit(finished / "runs/small" / stage / "manifest.json", spoil)
    done = command(*arguments)
    assert "\x1b" not in done.out + done.err and "\x07" not in done.out + done.err


def test_a_key_of_a_megabyte_is_not_printed_whole(finished, command):
    edit(finished / "runs/small/coarse/manifest.json", lambda manifest: manifest["tables"].update({"m" * 10**6: 1}))
    for arguments in (("status", "small.toml"), ("fine", "small.toml"), ("report", "small.toml")):
        done = command(*arguments)
        assert len(done.out + done.err) < 20_000, arguments


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "winner.json",
            lambda value: value.update(round="../../x"),
            "winner.json: not what tuner wrote (round is",
        ),
        ("winner.json", lambda value: value.update(checkpoint="../../x.pt"), "names a checkpoint that no stage wrote"),
        ("winner.json", lambda value: value.pop("params"), "winner.json: not what tuner wrote (it has no 'params')"),
        ("fine/manifest.json", lambda value: value["outputs"].update({"../../x": "0"}), "fine/manifest.json: not what"),
        ("fine/manifest.json", lambda value: value.update(device=3), "not what tuner wrote (device is 3)"),
        ("fine/manifest.json", lambda value: value["inputs"].update(coarse=3), "its inputs hold 'coarse': 3"),
        ("test-looks.json", lambda value: value.append(3), "test-looks.json: not what tuner wrote"),
    ],
)
def test_names_and_kinds_in_artifacts_are_checked(finished, command, name, change, message):
    edit(finished / "runs/small" / name, change)
    refused(command("test", "small.toml", "--force"), 3, message)


@pytest.mark.parametrize(
    "entry",
    [
        {"round": "../x", "base": 1, "changes": [], "kept": None, "why": ""},
        {"round": 2, "base": 7, "changes": [], "kept": None, "why": ""},
        {"round": 2, "base": 2, "changes": [], "kept": None, "why": ""},
        {"round": 2, "base": 1, "changes": [{"key": "../../x"}], "kept": None, "why": ""},
        {"round": 2, "base": 1, "changes": [], "kept": "yes", "why": ""},
    ],
)
def test_a_round_that_no_run_had_is_refused(finished, command, entry):
    (finished / "runs/small/rounds.json").write_text(json.dumps([entry]))
    refused(command("status", "small.toml"), 3, "rounds.json: not what tuner wrote")
