"""What the trained model says about val, example by example, and, once, about test."""

from __future__ import annotations

from typing import Any

import torch

from tuner.checks.evidence import NotMeasured
from tuner.checks.test_evaluation.evidence import TestEvaluation
from tuner.checks.tools.predictions import BATCH, _predict
from tuner.core.errors import InputError
from tuner.train.checkpoint import load


def test_evaluation(setup: Any, checkpoint: str) -> TestEvaluation | NotMeasured:
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
        return NotMeasured("the data has no test split")
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
    return TestEvaluation.from_json(
        found
        | {
            "accuracy": float((right == targets).double().mean()),
            "loss": total / len(targets),
            "confusion": torch.bincount(flat, minlength=classes * classes).reshape(classes, classes).tolist(),
        }
    )
