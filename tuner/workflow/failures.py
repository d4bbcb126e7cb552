"""What failed trials mean for their stage: tried again, recorded, or the end of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tuner import stages
from tuner.core.errors import EnvironmentProblem, InputError, TunerError, UserCodeError
from tuner.core.result import Record, TrialResult

RETRIED = ("crash", "timeout", "oom", "data")  # what may have been fixed: tried again when an unfinished stage goes on
ALIKE = 4  # so many first trials of a stage that all fail in the same way end it


def first_fail_alike(records: Sequence[Record]) -> list[Record]:
    """Return the first trials of a stage, by number, if they are there and all failed in the same way; else nothing.

    By number, not by arrival: the decision is the same whatever the number of workers.
    """
    by_number = {record.number: record for record in records}
    first = [by_number[number] for number in range(ALIKE) if number in by_number]
    kinds = {_kind(record.result) for record in first}
    return first if len(first) == ALIKE and len(kinds) == 1 and None not in kinds else []


def _kind(result: TrialResult) -> tuple[str, str] | None:
    """Return what makes two failures alike: the kind, and the head of the message without its numbers."""
    if result.status != "failed" or result.error is None:
        return None
    head = result.error.message.strip().splitlines()[:1]
    return result.error.kind, re.sub(r"\d[\d.,]*", "", "".join(head))


def raise_hopeless(name: str, records: Sequence[Record], every: bool) -> None:
    """Raise the error that ends the command: in steps 1-3 and test any failure; later user code that raises, or data
    that cannot be read, in every trial.

    `every`: the records are all there are; otherwise they are one that has just come in.
    """
    failed = [record.result for record in records if record.result.status == "failed"]
    if not failed or failed[0].error is None:
        return
    error = failed[0].error
    kinds: dict[str, type[TunerError]] = {"user-code": UserCodeError, "data": InputError}
    met = {result.error.kind for result in failed if result.error}
    all_alike = len(failed) == len(records) and len(met) == 1 and met <= set(kinds)
    traits = stages.traits(name)
    if not (all_alike and every) and not traits.user_error_ends:
        return
    if error.kind in kinds:
        raise kinds[error.kind](error.message, error.hint)
    if traits.any_failure_ends or (every and len(failed) == len(records)):
        raise EnvironmentProblem(f"{name}: a trial failed ({error.kind}): {error.message}", error.hint)


def worth_retrying(record: Record) -> bool:
    """Return whether an unfinished stage that goes on tries a failed trial again."""
    return record.result.error is not None and record.result.error.kind in RETRIED
