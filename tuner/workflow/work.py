"""What a stage of a round is asked with: its recipe, settings, inputs and folder, gathered in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuner import stages
from tuner.core.result import Record, StageResult, TrialResult
from tuner.core.stage_ref import StageRef
from tuner.core.store import StageDir
from tuner.core.trial import WorkItem
from tuner.recipe.model import Recipe
from tuner.workflow import outputs
from tuner.workflow.failures import worth_retrying
from tuner.workflow.freshness import Session
from tuner.workflow.under_way import is_given_up


@dataclass(frozen=True)
class Work:
    """One stage of one round with all that its `plan` and `judge` read."""

    ref: StageRef
    recipe: Recipe
    settings: stages.StageSettings
    inputs: stages.Inputs
    folder: StageDir

    @property
    def stage(self) -> stages.Stage:
        return stages.load(self.ref.stage)

    def plan(self, history: Sequence[Record]) -> list[WorkItem]:
        """Return the next generation of work items, given the records of those before it."""
        return self.stage.plan(self.recipe, self.inputs, self.settings, history)

    def judge(self, records: Sequence[Record]) -> StageResult[Any]:
        """Return what the stage concludes; findings that the recipe accepts are marked."""
        result = self.stage.judge(self.recipe, self.inputs, self.settings, records)
        codes = self.recipe.accept.codes
        findings = [replace(finding, accepted=finding.accepted or finding.code in codes) for finding in result.findings]
        return replace(result, findings=findings)

    def finished(self) -> dict[Any, TrialResult]:
        """Return what the folder has of earlier calls, by key, but for failures that are worth another try."""
        stay = [r for r in self.folder.records() if not (worth_retrying(r) or is_given_up(r))]
        return {record.item.key: record.result for record in stay}

    def given_up(self) -> dict[str, Record]:
        """Return the trials that an earlier call has given up, by id."""
        return {record.result.id: record for record in self.folder.records() if is_given_up(record)}


def work_of(session: Session, ref: StageRef, device: str) -> Work:
    """Gather what a stage is asked with. `device`: the kind that its trials run on.

    Raises:
        UsageError: a flag's value is not allowed.
        InputError: a result that the stage needs is missing, stale or failed, and the options don't allow it.
    """
    recipe = session.recipe_of(ref)
    settings = session.settings(ref)  # a wrong flag is reported before anything else
    inputs = stages.Inputs(
        results=session.require_inputs(ref),
        trials=session.trials(ref),
        facts=stages.Facts(session.user_files, session.data_hash, device),
        extra=_extra(session, ref),
        folder=ref.label,
        planned_epochs=stages.planned_epochs(recipe),
    )
    return Work(ref, recipe, settings, inputs, ref.folder(session.run))


def _extra(session: Session, ref: StageRef) -> dict[str, Any]:
    """Return what a stage reads beside results: on the test split the winner, verified, and the looks so far."""
    if not stages.traits(ref.stage).on_test_split:
        return {}
    return {"winner": outputs.winner_of(session.run), "looks": len(outputs.looks(session.run))}


def known(items: Sequence[WorkItem], finished: Mapping[Any, TrialResult]) -> list[Record]:
    """Return the records of those items that are finished."""
    return [Record(item, finished[item.key]) for item in items if item.key in finished]


def unfinished(items: Sequence[WorkItem], finished: Mapping[Any, TrialResult]) -> list[WorkItem]:
    """Return the items that are to be run, each once."""
    return list({item.key: item for item in items if item.key not in finished}.values())
