"""The plots of finished stages, drawn beside the trials of the stages after them: a user waits for none of them.

A stage's result stands without its plots, which are drawn from its files alone. They are there when the command ends;
a command that was killed before that leaves them to the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tuner.core.errors import EnvironmentProblem, TunerError
from tuner.core.result import StageResult
from tuner.core.store import StageDir

Note = Callable[[str], None]


class Drawing:
    """Draws the plots of one stage after the other, in a thread of its own where trials run in processes of theirs.

    `beside`: False where the trials run in this process: then a plot is drawn at once.
    """

    def __init__(self, note: Note, beside: bool) -> None:
        self.note = note
        self._thread = ThreadPoolExecutor(1, "tuner-plots") if beside else None
        self._begun: list[Future[None]] = []

    def draw(self, result: StageResult[Any], folder: StageDir) -> None:
        """Have the plots of a finished stage drawn, unless they are there."""
        if folder.plots_path.exists():
            return
        if self._thread is None:
            draw_plots(result, folder, self.note)
        else:
            self._begun.append(self._thread.submit(draw_plots, result, folder, self.note))

    def finish(self) -> None:
        """Wait for what was begun.

        Raises:
            EnvironmentProblem: a plot cannot be written.
        """
        for begun in self._begun:
            begun.result()
        self._begun.clear()

    def close(self) -> None:
        """Begin no more. Safe to call twice."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)


def draw_plots(result: StageResult[Any], folder: StageDir, note: Note) -> None:
    """Draw a stage's plots; one that cannot be drawn is reported, and does not undo a finished stage."""
    from tuner.view import plots

    try:
        plots.draw(result, folder.path)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {folder.plots_path}: {error}", "Look at the disk, then give the same command again."
        ) from error
    except TunerError:  # the disk as well
        raise
    except Exception as error:
        note(f"the plots of {result.stage} could not be drawn: {type(error).__name__}: {error}")
        folder.plots_path.mkdir(exist_ok=True)  # tried once
