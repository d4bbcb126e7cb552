"""What a workflow tells while it works; `tuner.view.progress` draws it."""

from __future__ import annotations

from typing import Protocol

from tuner.core.result import TrialResult
from tuner.core.trial import Progress
from tuner.view.progress import Epochs


class ProgressListener(Protocol):
    """Hear of trials as they run and end."""

    def start(self, title: str, total: int, done: int, epochs: Epochs | None = None) -> None: ...
    def update(self, progress: Progress) -> None: ...
    def finish(self, result: TrialResult, number: int | None = None) -> None: ...
    def stop(self) -> None: ...
    def note(self, text: str) -> None: ...
