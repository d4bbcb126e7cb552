from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import dataclass, replace

import pytest
from rich.console import Console

from tests.view.seen import STAGES, bare, measured, plain_console, read, text_of
from tuner import stages
from tuner.core.metrics import ConfirmingRun
from tuner.core.result import Change, Skipped, StageResult
from tuner.view.console import evidence_text, report
from tuner.view.page import make_console

NEXT = "tuner coarse recipes/cifar10.toml --run-dir runs/example --set optimizer.weight_decay=1e-4"


def printed(result, run, width=80, encoding="utf-8", folder=None):
    console, file = plain_console(width, encoding)
    report(result, run / (folder or result.stage), NEXT, console)
    return text_of(file)


def widest(text):
    """Return the length of the longest line, but for the path of the plots, which is one word."""
    return max(len(line) for line in text.splitlines() if not line.startswith((" Plot:", " Plots:")))


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("stage", STAGES)
def test_report_fits_its_width_and_has_no_ansi_codes(run_dir, stage, width):
    text = printed(read(run_dir, stage), run_dir, width)
    assert widest(text) <= min(width, 100)
    assert "\x1b" not in text


def of_check_init(found):
    loss = f"{found.metrics.init_loss:.3f} +- {found.metrics.init_loss_std:.3f}"
    return ["STEP 1", loss, "2.303", "train 1,150 1x8x8", "2 ReLU", "fine's 3 epochs: 0.1 throughout"]


def of_overfit(found):
    metrics = found.metrics
    return ["STEP 2", f"{metrics.lr:g} {metrics.steps} {metrics.final_loss:.4f} 1.000 reached the floor", "32 examples"]


def of_lr_sweep(found):
    best = max(found.metrics.rates, key=lambda rate: rate.drop)
    drop, chosen = f"{best.drop:.3f} +- {best.drop_std:.3f} falls, steepest", f"{found.choice['lr']:g}"
    return ["STEP 3", drop, f"{chosen} is the geometric middle", f"chosen, {chosen}", "too high"]


def of_coarse(found):
    metrics = found.metrics
    ends = f"{metrics.completed} completed, {metrics.stopped} stopped"
    counts = f"12 trials of up to {metrics.epochs_full // 12} epochs: {ends}"
    narrowed = found.choice["space"]["optimizer.lr"]
    return ["STEP 4", counts, f"1 {metrics.best_val_accuracy:.3f}", f"to {narrowed['high']:g} (", "best trial", "share"]


def of_fine(found):
    metrics, winner = found.metrics, found.choice["trial"]
    low, high = metrics.interval
    finalist = next(entry for entry in metrics.finalists if winner in (entry.trial, *entry.trials))
    row = f"{finalist.trial} * {metrics.mean:.3f} +- {metrics.std:.3f} 3"
    return ["STEP 5", row, f"{low:.3f} to {high:.3f}", f"p = {metrics.runner_up_p:.3f}", found.findings[0].code]


def of_diagnose(found):
    metrics = found.metrics
    row = f"accuracy {metrics.train_accuracy:.3f} {metrics.val_accuracy:.3f} {metrics.gap:.3f}"
    return ["STEP 6", row, f"best epoch, {metrics.best_epoch} of 6", "not checked: CU602"]


def of_test(found):
    metrics = found.metrics
    low, high = metrics.interval
    return ["TEST", f"{metrics.accuracy:.4f} (95 % interval {low:.3f} to {high:.3f})", "examples 359", "Confusion"]


KEY_NUMBERS = (of_check_init, of_overfit, of_lr_sweep, of_coarse, of_fine, of_diagnose, of_test)


@pytest.mark.parametrize(("stage", "numbers"), zip(STAGES, KEY_NUMBERS, strict=True))
def test_report_shows_verdict_numbers_and_the_next_command(run_dir, stage, numbers):
    found = read(run_dir, stage)
    text = printed(found, run_dir)
    first = text.splitlines()[0]
    assert first.endswith("PASS") and len(first) == 80
    flat = " ".join(text.split())
    assert [number for number in numbers(found) if number not in flat] == []
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
    written = json.loads((run_dir / stage / "result.json").read_text())
    shown = 0
    for key in sorted(keys_of(written) - {"stage"}):
        with contextlib.suppress(ValueError):  # not what tuner wrote: refused when it is read
            found = StageResult.from_json({**change(written, key), "stage": stage}, stages.load(stage).Metrics)
            assert "None" not in printed(found, run_dir), key
            shown += 1
    assert shown > 8


@pytest.mark.parametrize("stage", STAGES)
def test_report_does_not_crash_on_an_empty_result_without_files(run_dir, tmp_path, stage):
    text = printed(bare(read(run_dir, stage)), tmp_path)
    assert "Next:" in text and "None" not in text


@dataclass(frozen=True)
class Pruned:
    sparsity: float = 0.5
    rows: tuple[int, ...] = (1,)


def test_report_of_a_stage_without_one_of_its_own_lists_its_numbers(tmp_path):
    text = printed(StageResult("prune", "half is gone", Pruned()), tmp_path)
    assert "PASS" in text and re.search(r"sparsity +0\.5", text)


def test_report_names_the_round(run_dir):
    assert "diagnosis of the winner, round 2" in printed(read(run_dir, "diagnose"), run_dir, folder="diagnose-2")


def test_report_is_plain_ascii_where_the_encoding_cannot_do_more(run_dir):
    for stage in STAGES:
        assert printed(read(run_dir, stage), run_dir, encoding="ascii").isascii()
    assert re.search(r"o\.+", printed(read(run_dir, "lr-sweep"), run_dir, encoding="ascii"))


def test_report_replaces_what_cannot_be_printed(run_dir):
    found = replace(read(run_dir, "test"), headline="caf\u00e9 \x1b[31mred\x1b[0m")
    assert "caf? " in printed(found, run_dir, encoding="ascii")
    assert "\x1b" not in printed(found, run_dir)


def findings_of(found, *codes, **more):
    """Return the result with its first finding under each of these codes."""
    return replace(found, findings=[replace(found.findings[0], code=code, **more) for code in codes])


def test_findings_beyond_six_are_counted(run_dir):
    text = printed(findings_of(read(run_dir, "fine"), *(f"FI5{i:02d}" for i in range(9))), run_dir)
    assert "FI505" in text and "FI506" not in text and "3 findings more" in text


def test_an_accepted_finding_says_so(run_dir):
    assert "(accepted in the recipe)" in printed(findings_of(read(run_dir, "fine"), "FI501", accepted=True), run_dir)


def test_changes_of_findings_are_shown_once_when_the_choice_has_none(run_dir):
    change = Change("optimizer.lr", 0.1, 0.01, "too high")
    text = printed(findings_of(read(run_dir, "fine"), "FI501", "FI502", changes=[change]), run_dir)
    assert text.count("optimizer.lr: 0.1 -> 0.01  (too high)") == 1


def test_the_changes_of_the_choice_are_shown_with_their_reasons(run_dir):
    change = Change("optimizer.weight_decay", 1e-5, 1e-4, "train 0.988 against val 0.926: regularise")
    found = replace(read(run_dir, "diagnose"), choice={"changes": [change.to_json()]})
    flat = " ".join(printed(found, run_dir).split())
    assert "optimizer.weight_decay: 1e-5 -> 1e-4 (train 0.988 against val 0.926: regularise)" in flat


def test_checks_that_were_skipped_beyond_four_are_counted(run_dir):
    found = replace(read(run_dir, "diagnose"), skipped=[Skipped(f"CU60{i} a check", "too short") for i in range(7)])
    text = printed(found, run_dir)
    assert text.count("not checked: CU60") == 3 and "not checked: 4 more" in text


def test_evidence_leaves_out_long_lists_what_is_null_and_what_the_title_said():
    evidence = {"gap": 0.123456, "lr": 1e-3, "curve": list(range(50)), "nested": {"a": 1}, "missing": None}
    assert evidence_text(evidence) == "gap 0.1235 and lr 0.001"
    assert evidence_text({"p": 0.6875, "n": 12, "at": 3.5}, "cannot be decided (p = 0.69, 12 seeds)") == "at 3.5"


def test_lr_sweep_shows_dashes_for_numbers_that_are_null(run_dir):
    found = read(run_dir, "lr-sweep")
    gone = replace(
        found.metrics.rates[-1],
        **dict.fromkeys(("final_loss", "final_loss_std", "drop", "drop_std")),
        status="diverged",
        verdict="diverges, nan at step 14",
    )
    text = printed(measured(found, rates=[*found.metrics.rates[:-1], gone]), run_dir)
    assert re.search(r"1 +diverged +- +diverges, nan at step 14", text)


def test_make_console_is_plain_and_80_wide_in_a_pipe(capsys):
    console = make_console()
    console.print("x", style="bold red")
    assert console.width == 80 and capsys.readouterr().out == "x\n"


def test_no_color_prints_no_codes_on_a_terminal(run_dir, monkeypatch):
    def on_terminal():
        file = io.StringIO()
        console = Console(file=file, width=80, force_terminal=True)
        report(read(run_dir, "fine"), run_dir / "fine", NEXT, console)
        return file.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" in on_terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in on_terminal()


def test_check_init_reads_statistics_per_channel(run_dir):
    found = read(run_dir, "check-init")
    channels = {"min": [0.0, 3.0], "max": [200.0, 255.0], "mean": [10.0, 30.0], "std": [1.0, 3.0]}
    data = {**found.metrics.data, "train": replace(found.metrics.data["train"], **channels)}
    text = printed(measured(found, data=data, duplicates_across={"duplicates": 3}), run_dir)
    assert "0 to 255" in text and "20.00 +- 2.00" in text and "3 exact duplicates" in text


def test_check_init_says_how_a_planned_rate_moves(run_dir):
    runs = {"fine": {"epochs": 15, "steps": 135, "places": [0.0, 0.5, 0.9], "rates": [1.0, 0.5, 0.1]}}
    found = measured(read(run_dir, "check-init"), planned_rates={"name": "linear", "base": 0.1, "runs": runs})
    assert "fine's 15 epochs: 0.1 at first, 0.1 at most, 0.01 at last" in " ".join(printed(found, run_dir).split())


def test_check_init_names_the_parameter_groups_where_there_are_several(run_dir):
    one = {"parameters": ["0.weight", "2.weight"], "lr": 0.1, "weight_decay": 0.01}
    two = {"parameters": ["0.bias", "1.weight", "2.bias"], "lr": 0.1, "weight_decay": 0.0}
    for groups, shown in (([one, two], True), ([one], False)):
        found = measured(read(run_dir, "check-init"), planned_rates={"groups": groups})
        text = " ".join(printed(found, run_dir).split())
        assert ("0.weight, 2.weight 0.1 0.01 0.bias ... 2.bias (3 parameters) 0.1 0" in text) == shown


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("names", [[str(i) for i in range(10)], ["a rather long name of a class"] * 10])
def test_test_shows_the_confusion_whatever_the_length_of_the_names(run_dir, names, width):
    text = printed(measured(read(run_dir, "test"), class_names=names), run_dir, width)
    assert "Confusion" in text and text.count(" %\n") == 10
    assert widest(text) <= width


def test_test_leaves_the_confusion_of_many_classes_to_the_plot(run_dir):
    matrix = [[5 if i == j else 0 for j in range(21)] for i in range(21)]
    matrix[3][4] = 2
    text = printed(measured(read(run_dir, "test"), confusion=matrix, class_names=None), run_dir)
    assert "Confusion" not in text and "3 taken for 4 (2 times)" in text


def test_the_diagnosis_shows_its_confirming_runs(run_dir):
    helped = ConfirmingRun("rate x 10", runs=2, accuracy=0.9, gain=0.2, noise=0.01, helps=True)
    control = ConfirmingRun("control", runs=2, accuracy=0.7, helps=False)
    text = printed(measured(read(run_dir, "diagnose"), confirming=[control, helped]), run_dir)
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.split()[:1] in (["rate"], ["control"])}
    assert rows["rate"] == ["rate", "x", "10", "2", "0.900", "0.200", "+-", "0.010", "helps"]
    assert rows["control"] == ["control", "2", "0.700", "-", "-"]


def test_evidence_is_said_in_words():
    evidence = {"left_in_eval_mode": True, "finite": False, "moved": [], "at": ["0.weight", "1.bias"], "hits": 44}
    assert evidence_text(evidence) == "left in eval mode, not finite, at 0.weight and 1.bias and hits 44"
