"""The overview of a run: what is wrong comes first, the worst before the rest, effects left to their causes."""

import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from tuner.core.result import Finding, StageResult
from tuner.view.overview import overview, urgent


@dataclass(frozen=True)
class Nothing:
    """Metrics of no stage."""


def step(label, *findings, headline="all is well"):
    return label, StageResult(label, headline, Nothing(), findings)


def found(code, severity, title="", **more):
    return Finding(code, "some-cause", severity, title or f"{code} was seen", remedy=f"fix {code}", **more)


def printed(tmp_path, *steps):
    out = io.StringIO()
    overview(tmp_path, steps, Console(file=out, width=80, color_system=None))
    return out.getvalue()


def test_errors_come_before_warnings_notes_and_accepted_ones_not_at_all():
    steps = [
        step("check-init", found("A1", "warn"), found("A2", "note"), found("A3", "warn", accepted=True)),
        step("overfit", found("B1", "error")),
    ]
    assert [(label, finding.code) for label, finding in urgent(steps)] == [("overfit", "B1"), ("check-init", "A1")]


def test_what_follows_from_another_finding_is_left_to_it():
    steps = [step("check-init", found("A1", "warn"), found("A2", "warn", explained_by="A1"))]
    assert [finding.code for _, finding in urgent(steps)] == ["A1"]
    alone = [step("check-init", found("A2", "warn", explained_by="gone"))]
    assert [finding.code for _, finding in urgent(alone)] == ["A2"]


def test_verdict_cause_remedy_and_the_end_of_each_step_are_on_the_first_screen(tmp_path):
    text = printed(tmp_path, step("check-init"), step("overfit", found("B1", "error", "the head is frozen")))
    lines = text.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert lines[0].startswith(" RUN  ") and lines[0].endswith("FAIL")
    assert "overfit:" in text and "ERROR  B1     the head is frozen" in text and "Do: fix B1" in text
    assert "Steps: check-init PASS, overfit FAIL." in text


@pytest.mark.parametrize(("count", "said"), [(3, ""), (4, "... and 1 finding more below"), (6, "3 findings more")])
def test_more_than_three_are_counted(tmp_path, count, said):
    text = printed(tmp_path, step("check-init", *[found(f"A{i}", "warn") for i in range(count)]), step("overfit"))
    assert text.count("Do: ") == 3 and said in text


def test_a_sound_run_gives_its_last_answer(tmp_path):
    text = printed(tmp_path, step("check-init"), step("test", headline="Test accuracy 0.9."))
    assert text.splitlines()[0].endswith("PASS")
    assert "No step found anything wrong; test says: Test accuracy 0.9." in text
