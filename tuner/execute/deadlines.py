"""How long a trial may take, and how long it may be silent, before it is taken for hung."""

from __future__ import annotations

from tuner.core.result import TrialResult
from tuner.core.trial import WorkItem

LEAST_SECONDS = 600.0  # a trial tells its progress several times a second; ten minutes of silence are no pause
FACTOR = 20.0  # configurations differ in cost, and machines are shared


class Deadlines:
    """Learns from finished trials what an epoch, a step or a measure costs. All times are of the monotonic clock.

    `given` (seconds, from the user) replaces both rules: a trial may take, and be silent for, that long.
    """

    def __init__(self, given: float | None = None, least: float = LEAST_SECONDS) -> None:
        self.given = given
        self.least = least
        self._unit_seconds: dict[str, float] = {}

    @property
    def silence(self) -> float:
        """Return how many seconds a trial may say nothing."""
        return self.least if self.given is None else self.given

    def learn(self, item: WorkItem, result: TrialResult) -> None:
        """Take in how long a trial took that came to its end."""
        if result.status in ("completed", "stopped"):
            unit, count = _units(item)
            self._unit_seconds[unit] = max(self._unit_seconds.get(unit, 0.0), result.wall_seconds / count)

    def expected(self, item: WorkItem) -> float | None:
        """Return how many seconds a trial should take by those that finished, or None when none of its kind has."""
        unit, count = _units(item)
        return self._unit_seconds[unit] * count if unit in self._unit_seconds else None

    def limit(self, item: WorkItem) -> float | None:
        """Return how many seconds a trial may take; None: as long as it goes on."""
        if self.given is not None:
            return self.given
        expected = self.expected(item)
        return None if expected is None else max(self.least, FACTOR * expected)

    def exceeded(self, item: WorkItem, running: float, silent: float) -> str | None:
        """Say which limit a trial has passed that has run, and been silent, for so many seconds; None: neither."""
        limit = self.limit(item)
        if limit is not None and running > limit:
            return f"not finished after {words(limit)}, its deadline{self._why(item)}"
        return f"no sign of life for {words(self.silence)}" if silent > self.silence else None

    def _why(self, item: WorkItem) -> str:
        expected = self.expected(item)
        if self.given is not None or expected is None or FACTOR * expected < self.least:
            return ""
        return f" ({FACTOR:.0f} times the {words(expected)} that such trials took)"


def words(seconds: float) -> str:
    """Say a duration: `45 seconds`, `10 minutes`."""
    if seconds == 1:
        return "1 second"
    return f"{seconds:.3g} seconds" if seconds < 120 else f"{seconds / 60:.3g} minutes"


def _units(item: WorkItem) -> tuple[str, int]:
    """Return what a trial's cost is counted in, and how many of them it has."""
    spec = item.spec
    if spec.horizon_steps is not None:
        return "step", spec.horizon_steps
    if spec.horizon_epochs is not None:
        return "epoch", item.until_epoch or spec.horizon_epochs
    return f"measures {sorted(spec.measure)}", 1
