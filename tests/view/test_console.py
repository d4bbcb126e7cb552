from __future__ import annotations

import contextlib
import copy
import re
from dataclasses import dataclass

import pytest

from tests.results import result_of
from tests.view.view_fixtures import STAGES, finding, load, plain_console, result, text_of
from tuner.core.result import StageResult
from tuner.view.console import evidence_text, report
from tuner.view.page import make_console

NEXT = "tuner coarse recipes/cifar10.toml --run-dir runs/example --set optimizer.weight_decay=1e-4"


def printed(found, stage_dir, width=80, encoding="utf-8", command=NEXT):
    console, file = plain_console(width, encoding)
    report(result_of(found["stage"], found), stage_dir, command, console)
    return text_of(file)


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("stage", STAGES)
def test_report_fits_its_width_and_has_no_ansi_codes(run_dir, stage, width):
    text = printed(load(run_dir, stage), run_dir / stage, width)
    assert max(map(len, text.splitlines())) <= min(width, 100)
    assert "\x1b" not in text


KEY_NUMBERS = {
    "check-init": [
        "STEP 1",
        "2.318 +- 0.012",
        "2.303",
        "block2.conv1",
        "2 exact duplicates",
        "fine's 15 epochs: 0.1 at first, 0.1 at most, 0.01 at last",
        "DA104",
        "IN109",
    ],
    "overfit": ["STEP 2", "0.0006", "diverged", "240", "0.01 *", "50 examples"],
    "lr-sweep": ["STEP 3", "1.402 +- 0.021", "0.900", "falls, steepest", "Use 0.02", "bf16", "chosen, 0.02"],
    "coarse": ["STEP 4", "0.912", "15 completed", "1 diverged", "0.005 to 0.08", "16 or 32", "best trial"],
    "fine": ["STEP 5", "0.904 +- 0.004", "01ab34cd56ef *", "0.895 to 0.913", "p = 0.210", "(accepted in the recipe)"],
    "diagnose": ["STEP 6", "0.988", "0.926", "0.062", "best epoch, 9", "1e-5 -> 1e-4", "CU603", "3 more"],
    "test": ["TEST", "0.9580", "0.947 to 0.972", "cat taken for dog (8 times)", "airplane", "1000"],
}


@pytest.mark.parametrize("stage", STAGES)
def test_report_shows_verdict_numbers_and_the_next_command(run_dir, stage):
    text = printed(load(run_dir, stage), run_dir / stage)
    first = text.splitlines()[0]
    assert first.endswith("PASS") and len(first) == 80
    flat = " ".join(text.split())
    assert [number for number in KEY_NUMBERS[stage] if number not in flat] == []
    command = text.split("Next:")[1].replace("\\\n", " ").split()
    assert command == NEXT.split()


def without(value, key):
    """Every copy of `value` in which the dictionaries lack `key`."""
    if isinstance(value, dict):
        return {k: without(v, key) for k, v in value.items() if k != key}
    return [without(item, key) for item in value] if isinstance(value, list) else value


def nulled(value, key):
    if isinstance(value, dict):
        return {k: None if k == key else nulled(v, key) for k, v in value.items()}
    return [nulled(item, key) for item in value] if isinstance(value, list) else value


def keys_of(value):
    if isinstance(value, dict):
        return set(value) | {key for item in value.values() for key in keys_of(item)}
    return {key for item in value for key in keys_of(item)} if isinstance(value, list) else set()


@pytest.mark.parametrize("change", [without, nulled])
@pytest.mark.parametrize("stage", STAGES)
def test_a_result_that_lacks_any_key_is_refused_or_reported_without_it(run_dir, stage, change):
    found = load(run_dir, stage)
    shown = 0
    for key in sorted(keys_of(found) - {"stage"}):
        with contextlib.suppress(ValueError):  # not what tuner wrote: refused when it is read
            text = printed({**change(found, key), "stage": stage}, run_dir / stage)
            assert "None" not in text, key
            shown += 1
    assert shown > 8


@pytest.mark.parametrize("stage", STAGES)
def test_report_does_not_crash_on_an_empty_result_without_files(tmp_path, stage):
    text = printed({"stage": stage}, tmp_path / stage)
    assert "Next:" in text and "None" not in text


@dataclass(frozen=True)
class Pruned:
    sparsity: float = 0.5
    rows: tuple[int, ...] = (1,)


def test_report_of_a_stage_without_one_of_its_own_lists_its_numbers(tmp_path):
    console, file = plain_console()
    report(StageResult("prune", "half is gone", Pruned()), tmp_path / "prune", NEXT, console)
    text = text_of(file)
    assert "PASS" in text and re.search(r"sparsity +0\.5", text)


def test_report_names_the_round(run_dir):
    found = load(run_dir, "diagnose")
    assert "diagnosis of the winner, round 2" in printed(found, run_dir / "diagnose-2")


def test_report_is_plain_ascii_where_the_encoding_cannot_do_more(run_dir):
    for stage in STAGES:
        text = printed(load(run_dir, stage), run_dir / stage, encoding="ascii")
        assert text.isascii()
    assert re.search(r"o\.+", printed(load(run_dir, "lr-sweep"), run_dir / "lr-sweep", encoding="ascii"))


def test_report_replaces_what_cannot_be_printed(tmp_path):
    found = result("test", "pass", "caf\u00e9 \x1b[31mred\x1b[0m")
    assert "caf? " in printed(found, tmp_path / "test", encoding="ascii")
    assert "\x1b" not in printed(found, tmp_path / "test")


def test_findings_beyond_six_are_counted(tmp_path):
    found = result("fine", "warn", "many", findings=[finding(f"FI5{i:02d}", "warn", f"title {i}") for i in range(9)])
    text = printed(found, tmp_path / "fine")
    assert "FI505" in text and "FI506" not in text and "3 findings more" in text


def test_changes_of_findings_are_shown_once_when_the_choice_has_none(tmp_path):
    change = {"key": "optimizer.lr", "from": 0.1, "to": 0.01, "reason": "too high"}
    findings = [finding(code, "warn", "far too high", changes=[change]) for code in ("LR304", "LR305")]
    text = printed(result("lr-sweep", "warn", "too high", findings=findings), tmp_path / "lr-sweep")
    assert text.count("optimizer.lr: 0.1 -> 0.01  (too high)") == 1


def test_evidence_leaves_out_long_lists_what_is_null_and_what_the_title_said():
    evidence = {"gap": 0.123456, "lr": 1e-3, "curve": list(range(50)), "nested": {"a": 1}, "missing": None}
    assert evidence_text(evidence) == "gap 0.1235; lr 0.001"
    assert evidence_text({"p": 0.6875, "n": 12, "at": 3.5}, "cannot be decided (p = 0.69, 12 seeds)") == "at 3.5"


def test_lr_sweep_shows_dashes_for_numbers_that_are_null(run_dir):
    found = copy.deepcopy(load(run_dir, "lr-sweep"))
    rows = [line for line in printed(found, run_dir / "lr-sweep").splitlines() if "diverges, nan" in line]
    assert rows and re.search(r"1 +diverged +- +diverges", rows[0])


def test_make_console_is_plain_and_80_wide_in_a_pipe(capsys):
    console = make_console()
    console.print("x", style="bold red")
    assert console.width == 80 and capsys.readouterr().out == "x\n"


def test_no_color_prints_no_codes_on_a_terminal(run_dir, monkeypatch):
    import io

    from rich.console import Console

    def on_terminal():
        file = io.StringIO()
        report(
            result_of("fine", load(run_dir, "fine")),
            run_dir / "fine",
            NEXT,
            Console(file=file, width=80, force_terminal=True),
        )
        return file.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" in on_terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in on_terminal()


def test_check_init_reads_statistics_per_channel(run_dir):
    found = load(run_dir, "check-init")
    channels = {"min": [0.0, 3.0], "max": [200.0, 255.0], "mean": [10.0, 30.0], "std": [1.0, 3.0]}
    found["metrics"]["data"]["train"].update(channels)
    found["metrics"]["duplicates_across"] = {"duplicates": 3}
    text = printed(found, run_dir / "check-init")
    assert "0 to 255" in text and "20.00 +- 2.00" in text and "3 exact duplicates" in text


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("names", [[str(i) for i in range(10)], ["a rather long name of a class"] * 10])
def test_test_shows_the_confusion_whatever_the_length_of_the_names(run_dir, names, width):
    found = load(run_dir, "test")
    found["metrics"]["class_names"] = names
    text = printed(found, run_dir / "test", width)
    assert "Confusion" in text and text.count(" %\n") == 10
    assert max(map(len, text.splitlines())) <= width


def test_test_leaves_the_confusion_of_many_classes_to_the_plot(tmp_path):
    matrix = [[5 if i == j else 0 for j in range(21)] for i in range(21)]
    matrix[3][4] = 2
    text = printed(result("test", "pass", "fine", metrics={"confusion": matrix}), tmp_path / "test")
    assert "Confusion" not in text and "3 taken for 4 (2 times)" in text


def test_the_diagnosis_shows_its_confirming_runs(run_dir):
    found = load(run_dir, "diagnose")
    helped = {"arm": "rate x 10", "runs": 2, "accuracy": 0.9, "gain": 0.2, "noise": 0.01, "helps": True}
    control = helped | {"arm": "control", "accuracy": 0.7, "gain": None, "noise": None, "helps": False}
    found["metrics"]["confirming"] = [control, helped]
    lines = printed(found, run_dir / "diagnose").splitlines()
    row = next(line for line in lines if "rate x 10" in line)
    assert row.split() == ["rate", "x", "10", "2", "0.900", "0.200", "+-", "0.010", "helps"]
    assert next(line for line in lines if line.strip().startswith("control")).split() == [
        "control",
        "2",
        "0.700",
        "-",
        "-",
    ]
