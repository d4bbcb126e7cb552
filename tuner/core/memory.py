"""How much memory a configuration takes to train: a few measured training steps, and a line through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KEEPING = 2  # copies of the weights while a better epoch's replace the best so far, or are laid out for the disk
KEEPING_ON_GPU = 1  # what goes to the disk is laid out in the memory of the CPU


@dataclass(frozen=True)
class Needs:
    """What a configuration keeps: its weights (bytes), and what a forward pass saves for each example (bytes)."""

    weights_bytes: int
    saved_bytes: float


@dataclass(frozen=True)
class Measured:
    """The peak of training one configuration at several batch sizes: ((examples, bytes), ...).

    `copies`: how many times the size of the weights training keeps: they themselves, gradients, optimizer's state.
    """

    needs: Needs
    copies: float
    peaks: tuple[tuple[int, int], ...]

    @property
    def per_example(self) -> float:
        """Return the bytes that each example adds, by least squares over the batch sizes."""
        mean_size = sum(size for size, _ in self.peaks) / len(self.peaks)
        mean_peak = sum(peak for _, peak in self.peaks) / len(self.peaks)
        spread = sum((size - mean_size) ** 2 for size, _ in self.peaks)
        shared = sum((size - mean_size) * (peak - mean_peak) for size, peak in self.peaks)
        return max(0.0, shared / spread) if spread else 0.0

    @property
    def fixed(self) -> float:
        """Return the bytes that neither the batch nor the weights add to: the process, the data, the libraries."""
        size = sum(size for size, _ in self.peaks) / len(self.peaks)
        peak = sum(peak for _, peak in self.peaks) / len(self.peaks)
        return peak - self.per_example * size - self.copies * self.needs.weights_bytes


@dataclass(frozen=True)
class MemoryModel:
    """Predicts the peak memory of a configuration of a recipe from one or two of its configurations, measured.

    What training keeps grows with the weights, and one more copy of them is the best epoch's. What an example adds
    is in proportion to what a forward pass saves for it; the factor is that of all measured configurations together.
    `keeping`: further copies of the weights between epochs, when what the last step needed is free again.
    """

    measured: Sequence[Measured]
    keeping: int = KEEPING

    def predict(self, needs: Needs, batch_size: int) -> int:
        """Return the peak, in bytes, of a trial: of a step, or of keeping a better epoch's weights after it."""
        of_step = self._per_example(needs.saved_bytes) * batch_size
        return round(self._fixed(needs) + max(of_step, self.keeping * needs.weights_bytes))

    def largest_batch(self, needs: Needs, limit_bytes: int) -> int:
        """Return the largest batch that fits; 0: none does."""
        room = limit_bytes - self._fixed(needs)
        if room < self.keeping * needs.weights_bytes:
            return 0
        per_example = self._per_example(needs.saved_bytes)
        return max(0, int(room // per_example)) if per_example > 0 else (1 << 30 if room > 0 else 0)

    def _fixed(self, needs: Needs) -> float:
        first = self.measured[0]
        return first.fixed + (first.copies + 1) * needs.weights_bytes

    def _per_example(self, saved: float) -> float:
        of_saved = sum(one.needs.saved_bytes for one in self.measured)
        per_example = sum(one.per_example for one in self.measured)
        return saved * per_example / of_saved if of_saved > 0 else 0.0


@dataclass(frozen=True)
class Room:
    """What trials are predicted by, and the memory (bytes) that one may have on its device."""

    model: MemoryModel
    limit_bytes: int


@dataclass(frozen=True)
class Foreseen:
    """What is known of the memory of trials, whichever device they get: the peak of one training step of the recipe's
    own configuration (bytes), and what others are predicted by; None: not measured.
    """

    step_bytes: int | None = None
    model: MemoryModel | None = None

    def room(self, limit_bytes: int | None) -> Room | None:
        """Return the room of a trial on a device with so much memory; None: nothing is foreseen."""
        return None if self.model is None or limit_bytes is None else Room(self.model, limit_bytes)


NOTHING = Foreseen()


def gigabytes(count: float) -> str:
    """Format bytes as `31 GB`, `0.4 GB`."""
    return f"{count / 1e9:.2g} GB" if count < 1e10 else f"{count / 1e9:.0f} GB"


def too_large(overrides: Mapping[str, Any], batch_size: int, needed: int, limit_bytes: int) -> str:
    """Say that a configuration does not fit: `width 512 at batch 256 needs 31 GB of 24 GB`."""
    keys = [key for key in overrides if key.startswith("model.")]
    what = ", ".join(f"{key.rpartition('.')[2]} {overrides[key]}" for key in keys) or "the model"
    return f"{what} at batch {batch_size} needs {gigabytes(needed)} of {gigabytes(limit_bytes)}"
