"""What the trained model says about val, example by example, and, once, about test."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tuner.checks.evidence import NotMeasured
from tuner.checks.test_evaluation.evidence import TestEvaluation
from tuner.checks.tools.mistakes import surest_mistakes
from tuner.checks.tools.predictions import BATCH, _predict
from tuner.core.errors import InputError
from tuner.tasks.base import monitored_score
from tuner.train.answers import interval
from tuner.train.checkpoint import load
from tuner.train.data import Data
from tuner.train.evaluate import evaluate
from tuner.train.setup import Setup


def test_evaluation(setup: Setup, checkpoint: str) -> TestEvaluation | NotMeasured:
    """Load a checkpoint (path relative to the run's folder) and evaluate it on the test split, in fp32.

    `confusion[i][j]`: test examples of class i that the model takes for class j.
    """
    from tuner.train.data import load_data

    if setup.env.stage_dir is None:
        raise ValueError("the test evaluation needs the run's folder")
    path = setup.env.stage_dir.parent / checkpoint
    model = setup.model()
    weights: Any = load(path, setup.env.device).get("model")
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        why = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: not the weights of this model ({why})", "Run fine again with --fresh.") from error
    data = load_data(setup.spec.tables, setup.env, with_test=True)
    if not data.size("test"):
        return NotMeasured("the data has no test split")
    found: dict[str, Any] = {"n": data.size("test"), "class_names": list(data.class_names or [])}
    found["score_name"] = monitored_score(data.task, setup.tables["train"].get("monitor", "val_accuracy"))
    outputs, targets = _predict(setup, model, data.batches("test", BATCH))
    loss = setup.loss()
    measured = evaluate(model, data.batches("test", BATCH), loss, setup.scorer(loss))
    found |= {"score": measured.get(found["score_name"]), "others": measured}
    if not data.one_class_each:
        found["score_interval"] = interval(setup, data, model, found["score_name"])
        found |= {"accuracy": measured.get("accuracy"), "loss": measured["loss"]}
        return TestEvaluation.from_json(found | _picture(data, outputs, targets))
    broken = torch.nonzero(~outputs.isfinite().all(1)).flatten().tolist()
    found |= {"non_finite": len(broken), "first_non_finite": data.describe("test", broken[0]) if broken else None}
    right = outputs.argmax(1)
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
            "mistakes": surest_mistakes(setup, model),
            "confusion": torch.bincount(flat, minlength=classes * classes).reshape(classes, classes).tolist(),
        }
    )


def _picture(data: Data, outputs: Tensor, targets: Tensor) -> dict[str, Any]:
    """Return what the test's picture shows, and how many examples have outputs that are not finite."""
    broken = int((~outputs.isfinite()).any(1).sum())
    shown = {} if broken else data.task.picture(outputs.numpy(), targets.numpy())
    return {"non_finite": broken, "first_non_finite": None, **shown}
