"""What the trained model says about val, example by example, and, once, about test."""

from __future__ import annotations

import base64

import numpy as np
import torch
from torch import Tensor, nn

from tuner.checks.evidence import NotMeasured
from tuner.checks.tools.features import area
from tuner.checks.tools.frame import CannotProbe
from tuner.checks.tools.predictions import BATCH, _predict
from tuner.checks.val_predictions.evidence import Answers, ValPredictions
from tuner.train.answers import NoAnswers, packed, values_of_each
from tuner.train.setup import Setup


def val_predictions(setup: Setup) -> ValPredictions | NotMeasured:
    """Say of every val example whether the trained model gets it right: one bit each, packed, base64.

    Bits are in the split's order, the first in the highest bit of the first byte; `n` is their number.
    """
    if setup.trained is None:
        return NotMeasured("the trial has trained no model")
    if not setup.data.one_class_each:
        return _values(setup, setup.trained.model)
    try:
        outputs, targets = _predict(setup, setup.trained.model, setup.data.batches("val", BATCH))
        answers = {"val": sureness(outputs, targets)}
        if setup.data.size("train_eval"):
            known = setup.data.batches("train_eval", BATCH)
            answers["train"] = sureness(*_predict(setup, setup.trained.model, known))
    except CannotProbe as reason:
        return NotMeasured(str(reason))
    right = (outputs.argmax(1) == targets).numpy()
    count = sum(item.numel() for item in setup.trained.model.parameters())
    width = setup.data.num_classes
    inside = (targets >= 0) & (targets < width)  # a label that a loss ignores is in no class
    counts = torch.bincount(targets[inside], minlength=width)
    hits = torch.bincount(targets[inside & torch.from_numpy(right)], minlength=width)
    return ValPredictions(
        n=len(right),
        bits=base64.b64encode(np.packbits(right).tobytes()).decode(),
        parameters=count,
        class_counts=counts.tolist(),
        recall=[h / c if c else None for h, c in zip(hits.tolist(), counts.tolist(), strict=True)],
        areas=class_areas(outputs, targets),
        answers={split: found for split, found in answers.items() if found is not None},
    )


def _values(setup: Setup, model: nn.Module) -> ValPredictions | NotMeasured:
    """Say how good each val answer is; see `train.answers.values_of_each`."""
    try:
        values = values_of_each(setup, model, "val")
    except NoAnswers as reason:
        return NotMeasured(str(reason))
    parameters = sum(item.numel() for item in model.parameters())
    return ValPredictions(n=setup.data.size("val"), values=packed(values), parameters=parameters)


def sureness(outputs: Tensor, targets: Tensor) -> Answers | None:
    """Say how sure right and wrong answers are: the largest class probability (its softmax, unless outputs are that).

    `auroc`: in which share of all pairs of a right and a wrong answer the right one is surer; None without a pair.
    """
    if not outputs.isfinite().all():
        return None
    sure = _shares(outputs).max(1).values
    hit = outputs.argmax(1) == targets
    right, wrong = sure[hit], sure[~hit]
    return Answers(
        right=len(right),
        wrong=len(wrong),
        sure_when_right=float(right.mean()) if len(right) else None,
        sure_when_wrong=float(wrong.mean()) if len(wrong) else None,
        auroc=area(right, wrong) if len(right) and len(wrong) else None,
    )


def class_areas(outputs: Tensor, targets: Tensor) -> list[float | None] | None:
    """Return, per class, the area under the ROC curve of its probability against all other classes.

    None for a class without an example or with all of them; None for all where an output is not finite.
    """
    if not outputs.isfinite().all():
        return None
    areas: list[float | None] = []
    for column, shares in enumerate(_shares(outputs).unbind(1)):
        own, others = shares[targets == column], shares[targets != column]
        areas.append(area(own, others) if len(own) and len(others) else None)
    return areas


def _shares(outputs: Tensor) -> Tensor:
    """Return (N, C) outputs as class probabilities, float64: their softmax, unless they are that already."""
    are_shares = bool((outputs >= 0).all()) and bool(((outputs.sum(1) - 1).abs() < 1e-3).all())
    return outputs.double() if are_shares else outputs.double().softmax(1)
