"""The tables of a recipe that most do without: fine-tuning, a teacher, what is done with trained models."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Finetune(_Table):
    """Training on from weights of another training; a rate that is not given is 1e-4.

    `way`, by the size of the data and its likeness to what the weights were trained on: head (few, alike: the rest is
    frozen), last-blocks (few, unlike: the first blocks are frozen), discriminative (many, alike: all but the head at
    `factor` times the rate), all (many, unlike). What is frozen is released after `release_epoch` epochs.
    """

    weights: str | None = None
    way: Literal["head", "last-blocks", "discriminative", "all"] = "all"
    blocks: int = Field(default=1, ge=1)
    factor: float = Field(default=0.1, gt=0, le=1)
    release_epoch: int | None = Field(default=None, ge=1)
    freeze_norm: bool = True


KEYS_OF_WAYS = {  # which ways read them
    "blocks": ("last-blocks",),
    "factor": ("discriminative",),
    "release_epoch": ("head", "last-blocks"),
}


class After(_Table):
    """What is done with a trained model beyond one forward pass, measured on val when its training has ended, and on
    test by `tuner test`.

    `tta`: views of each example over which answers are averaged. `ensemble`: models whose answers are averaged:
    "snapshots", those of `train.snapshots`, or "finalists", every model of fine's finalists, one per seed (on test
    alone). `stacking`: a logistic regression of their answers, on val out of fold, on test fitted on val. `rerank`: of
    features, by k-reciprocal neighbours: true, or { k1, k2, share }.
    """

    tta: list[str] = Field(default_factory=list)
    ensemble: Literal["snapshots", "finalists"] | None = None
    stacking: bool = False
    rerank: bool | dict[str, int | float] = False

    @model_validator(mode="after")
    def _known(self) -> After:
        unknown = [name for name in self.tta if name not in VIEWS]
        if unknown:
            raise ValueError(f"unknown view {unknown[0]!r} (known: {', '.join(VIEWS)})")
        if self.stacking and self.ensemble is None:
            raise ValueError('stacking needs several models: set ensemble = "snapshots" or "finalists"')
        if isinstance(self.rerank, dict) and not set(self.rerank) <= set(RERANK):
            raise ValueError(f"rerank has the keys {', '.join(RERANK)} (got {', '.join(self.rerank)})")
        return self


class Teacher(_Table):
    """Learning from the answers of models beside the labels.

    Each is added to the loss, `weight` times. `distill`: a file of weights (of `model`, else of the recipe's own),
    whose answers at `temperature` are to be met. `mean_teacher`: the decay of an average of the model itself, whose
    answers are to be met. `pseudo_labels`: the confidence from which answers on the `unlabelled` examples (an .npz
    file with `inputs`) count as labels: those of the teacher where there is one, else the model's own.
    """

    distill: str | None = None
    temperature: float = Field(default=4.0, gt=0)
    weight: float = Field(default=0.5, gt=0)
    mean_teacher: float | None = Field(default=None, gt=0, lt=1)
    pseudo_labels: float | None = Field(default=None, gt=0, lt=1)
    unlabelled: str | None = None
    model: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _with_examples(self) -> Teacher:
        if (self.pseudo_labels is None) != (self.unlabelled is None):
            raise ValueError("pseudo_labels and unlabelled go together")
        if self.distill is None and self.mean_teacher is None and self.pseudo_labels is None:
            raise ValueError("a teacher needs one of distill, mean_teacher and pseudo_labels")
        if self.model is not None and self.distill is None:
            raise ValueError("model is the distilled teacher's, and distill names no file of weights")
        return self


RERANK = ("k1", "k2", "share")
VIEWS = ("hflip", "vflip", "quarter_turns", "shifts", "scales")
