"""What the trained model says about val, example by example, and, once, about test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tuner.checks.evidence import NotMeasured
from tuner.checks.test_evaluation.evidence import TestEvaluation
from tuner.checks.tools.mistakes import surest_mistakes
from tuner.checks.tools.predictions import BATCH, _predict
from tuner.core.errors import InputError
from tuner.core.trial import apply_overrides
from tuner.tasks.base import monitored_score
from tuner.tasks.reranking import reranked_matches
from tuner.tasks.scores import ranked_matches, retrieval_map
from tuner.train.after import after, snapshots_of
from tuner.train.answers import interval
from tuner.train.checkpoint import load
from tuner.train.data import Data
from tuner.train.evaluate import evaluate
from tuner.train.setup import Setup


def test_evaluation(
    setup: Setup, checkpoint: str, members: Sequence[Mapping[str, Any]] = ()
) -> TestEvaluation | NotMeasured:
    """Load a checkpoint (path relative to the run's folder) and evaluate it on the test split, in fp32.

    `members`: checkpoint and parameters of each model whose answers are averaged (`after.ensemble = "finalists"`).
    `confusion[i][j]`: test examples of class i that the model takes for class j.
    """
    from tuner.train.data import load_data

    if setup.env.stage_dir is None:
        raise ValueError("the test evaluation needs the run's folder")
    run = setup.env.stage_dir.parent
    model = setup.model()
    kept = _with_weights(model, run / checkpoint, setup.env.device)
    data = load_data(setup.spec.tables, setup.env, with_test=True)
    if not data.size("test"):
        return NotMeasured("the data has no test split")
    found: dict[str, Any] = {"n": data.size("test"), "class_names": list(data.class_names or [])}
    found["after"] = _after(setup, data, model, _models(setup, model, kept, run, members))
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
    classes = data.num_classes
    flat = targets * classes + right.clamp_max(classes - 1)
    return TestEvaluation.from_json(
        found
        | {
            "accuracy": float((right == targets).double().mean()),
            "loss": measured["loss"],
            "mistakes": surest_mistakes(setup, model),
            "confusion": torch.bincount(flat, minlength=classes * classes).reshape(classes, classes).tolist(),
        }
    )


def _picture(data: Data, outputs: Tensor, targets: Tensor) -> dict[str, Any]:
    """Return what the test's picture shows, and how many examples have outputs that are not finite."""
    broken = int((~outputs.isfinite()).any(1).sum())
    shown = {} if broken else data.task.picture(outputs.numpy(), targets.numpy())
    return {"non_finite": broken, "first_non_finite": None, **shown}


def _with_weights(model: nn.Module, path: Path, device: str) -> Mapping[str, Any]:
    """Load a checkpoint into the model, and return all that it holds."""
    kept = load(path, device)
    weights: Any = kept.get("model")
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        why = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: not the weights of this model ({why})", "Run fine again with --fresh.") from error
    return kept


def _models(
    setup: Setup, model: nn.Module, kept: Mapping[str, Any], run: Path, members: Sequence[Mapping[str, Any]]
) -> Callable[[], Iterator[nn.Module]]:
    """Return what gives the models whose answers are averaged: the trial's snapshots, or fine's finalists."""

    def finalists() -> Iterator[nn.Module]:
        for member in members:
            tables = apply_overrides(setup.tables, member["params"])
            if tables["data"] != setup.tables["data"]:
                continue  # its answers are to other inputs: another normalisation, or columns in other ranges
            made = setup.built(tables["model"])
            _with_weights(made, run / member["checkpoint"], setup.env.device)
            yield made

    return finalists if members else lambda: snapshots_of(model, kept.get("snapshots", ()))


def _after(setup: Setup, data: Data, model: nn.Module, models: Callable[[], Iterator[nn.Module]]) -> dict[str, Any]:
    """Return the scores of what the `[after]` table makes of the test split; nothing without one."""
    table = setup.tables.get("after")
    if table is None:
        return {}
    if data.one_class_each and data.task.name == "classification":
        return after(setup, data, model, models, "test")
    if data.task.name != "embedding" or not table.get("rerank"):
        return {}
    outputs, targets = _predict(setup, model, data.batches("test", BATCH))
    features, kinds = outputs.numpy(), targets.numpy()
    asked = table["rerank"] if isinstance(table["rerank"], Mapping) else {}
    plain, moved = ranked_matches(features, kinds), reranked_matches(features, kinds, **asked)
    return {"single": float(np.mean(retrieval_map(plain))), "reranked": float(np.mean(retrieval_map(moved)))}
