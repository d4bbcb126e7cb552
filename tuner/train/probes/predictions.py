"""What the trained model says about val, example by example, and, once, about test."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tuner.core.errors import InputError
from tuner.train.checkpoint import load
from tuner.train.probes._features import area
from tuner.train.probes._frame import CannotProbe

BATCH = 512


def _predict(setup: Any, model: nn.Module, batches: Any) -> tuple[Tensor, Tensor]:
    """Return outputs and targets of every example, in eval mode, on the CPU."""
    model.eval()
    given: list[Tensor] = []
    wanted: list[Tensor] = []
    with torch.no_grad():
        for inputs, targets in batches:
            outputs = model(inputs)
            if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(targets):
                raise CannotProbe("the outputs are not (examples, classes), so there is no prediction per example")
            given.append(outputs.float().cpu())
            wanted.append(targets.cpu())
    return torch.cat(given), torch.cat(wanted)


def val_predictions(setup: Any) -> dict[str, Any]:
    """Say of every val example whether the trained model gets it right: one bit each, packed, base64.

    Bits are in the split's order, the first in the highest bit of the first byte; `n` is their number. `parameters`:
    how many the model has, by which the simpler of two equals is known. `recall`: per class, None where val has none
    of it. `answers`: how sure right and wrong answers are, on val and on the train subset.
    """
    if setup.trained is None:
        return {"skipped": "the trial has trained no model"}
    try:
        outputs, targets = _predict(setup, setup.trained.model, setup.data.batches("val", BATCH))
        answers = {"val": sureness(outputs, targets)}
        if setup.data.size("train_eval"):
            known = setup.data.batches("train_eval", BATCH)
            answers["train"] = sureness(*_predict(setup, setup.trained.model, known))
    except CannotProbe as reason:
        return {"skipped": str(reason)}
    right = (outputs.argmax(1) == targets).numpy()
    count = sum(item.numel() for item in setup.trained.model.parameters())
    width = setup.data.num_classes
    inside = (targets >= 0) & (targets < width)  # a label that a loss ignores is in no class
    counts = torch.bincount(targets[inside], minlength=width)
    hits = torch.bincount(targets[inside & torch.from_numpy(right)], minlength=width)
    return {
        "n": len(right),
        "bits": base64.b64encode(np.packbits(right).tobytes()).decode(),
        "parameters": count,
        "class_counts": counts.tolist(),
        "recall": [h / c if c else None for h, c in zip(hits.tolist(), counts.tolist(), strict=True)],
        "answers": {split: found for split, found in answers.items() if found is not None},
    }


def sureness(outputs: Tensor, targets: Tensor) -> dict[str, Any] | None:
    """Say how sure right and wrong answers are: the largest class probability (its softmax, unless outputs are that).

    `auroc`: in which share of all pairs of a right and a wrong answer the right one is surer; None without a pair.
    """
    if not outputs.isfinite().all():
        return None
    are_shares = bool((outputs >= 0).all()) and bool(((outputs.sum(1) - 1).abs() < 1e-3).all())
    sure = (outputs if are_shares else outputs.double().softmax(1)).max(1).values.double()
    hit = outputs.argmax(1) == targets
    right, wrong = sure[hit], sure[~hit]
    return {
        "right": len(right),
        "wrong": len(wrong),
        "sure_when_right": float(right.mean()) if len(right) else None,
        "sure_when_wrong": float(wrong.mean()) if len(wrong) else None,
        "auroc": area(right, wrong) if len(right) and len(wrong) else None,
    }


def test_evaluation(setup: Any, checkpoint: str) -> dict[str, Any]:
    """Load a checkpoint (path relative to the run's folder) and evaluate it on the test split, in fp32.

    `confusion[i][j]`: test examples of class i that the model takes for class j.
    """
    from tuner.train.data import load_data

    if setup.env.stage_dir is None:
        raise ValueError("the test evaluation needs the run's folder")
    path = setup.env.stage_dir.parent / checkpoint
    model = setup.model()
    weights = load(path, setup.env.device).get("model")
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        why = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: not the weights of this model ({why})", "Run fine again with --fresh.") from error
    data = load_data(setup.spec.tables, setup.env, with_test=True)
    if not data.size("test"):
        return {"skipped": "the data has no test split"}
    found: dict[str, Any] = {"n": data.size("test"), "class_names": list(data.class_names or [])}
    outputs, targets = _predict(setup, model, data.batches("test", BATCH))
    broken = torch.nonzero(~outputs.isfinite().all(1)).flatten().tolist()
    found |= {"non_finite": len(broken), "first_non_finite": data.describe("test", broken[0]) if broken else None}
    right = outputs.argmax(1)
    loss = setup.loss()
    device = torch.device(setup.env.device)
    with torch.no_grad():
        parts = zip(outputs.split(BATCH), targets.split(BATCH), strict=True)
        total = sum(float(loss(o.to(device), t.to(device))) * len(t) for o, t in parts)
    classes = data.num_classes
    flat = targets * classes + right.clamp_max(classes - 1)
    return found | {
        "accuracy": float((right == targets).double().mean()),
        "loss": total / len(targets),
        "confusion": torch.bincount(flat, minlength=classes * classes).reshape(classes, classes).tolist(),
    }
