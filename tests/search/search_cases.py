"""A synthetic search: recipes, inputs and scripts whose best configuration is known."""

import base64
import math
import random

import numpy as np

from tuner.core.recipe import Recipe
from tuner.execute.replay import epochs
from tuner.stages import Inputs

SWEEP = {"choice": {"lr": 0.03, "lr_low": 0.003, "lr_high": 0.3, "precision": "bf16"}, "metrics": {"lr_high": 0.3}}
CHECK_INIT = {"choice": {}, "metrics": {"data": {"val": {"class_counts": [100, 60, 40]}}}}
SEARCH = {"optimizer.lr": "auto", "model.width": {"choices": [16, 32]}}


def recipe_of(**tables):
    return Recipe.model_validate(
        {"name": "r", "data": {"source": "digits"}, "model": {"name": "mlp", "width": 16}, **tables}
    )


def inputs_of(**results):
    names = {"lr_sweep": "lr-sweep", "check_init": "check-init"}
    given = {"lr_sweep": SWEEP, "check_init": CHECK_INIT, **results}
    return Inputs({names.get(key, key): value for key, value in given.items() if value is not None})


def bits(right):
    """Pack right (1) and wrong (0) answers as the val_predictions probe does."""
    return {"n": len(right), "bits": base64.b64encode(np.packbits(np.array(right)).tobytes()).decode()}


def answers(accuracy, n=200, seed=0):
    rng = random.Random(seed)
    return [int(rng.random() < accuracy) for _ in range(n)]


def bowl(best=0.05, noise=0.0):
    """Accuracy falls with the distance of the rate from the best, in decades; width 32 is a little better."""

    def script(item):
        params = item.spec.overrides
        accuracy = 0.95 - 0.1 * abs(math.log10(params["optimizer.lr"] / best))
        accuracy += 0.01 * (params.get("model.width", 16) == 32) + random.Random(item.spec.id).gauss(0, noise)
        accuracy = min(1.0, max(0.0, accuracy))
        evidence = {"val_predictions": bits(answers(accuracy, seed=item.spec.seed))} if item.spec.measure else {}
        return epochs(
            [accuracy * (1 - 0.5**epoch) for epoch in range(1, item.spec.horizon_epochs + 1)], evidence=evidence
        )

    return script
