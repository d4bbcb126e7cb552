"""A synthetic search: recipes, inputs and scripts whose best configuration is known."""

import base64
import json
import math
import random
from dataclasses import replace

import numpy as np

from tests.replay import ReplayExecutor, epochs, replay
from tests.results import inputs_of as result_inputs
from tuner.core.result import Record
from tuner.recipe.model import Recipe

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
    return result_inputs({names.get(key, key): value for key, value in given.items() if value is not None})


def bits(right):
    """Pack right (1) and wrong (0) answers as the val_predictions probe does."""
    return {"n": len(right), "bits": base64.b64encode(np.packbits(np.array(right)).tobytes()).decode()}


def answers(accuracy, n=200, seed=0):
    rng = random.Random(seed)
    return [int(rng.random() < accuracy) for _ in range(n)]


def cut(script):
    """Answer as a real trial does: at a rung with what it has by then, `stopped`; to the horizon with all of it."""

    def at_rung(item):
        whole = script(item)
        until = item.until_epoch
        if until is None or whole.status not in ("completed", "stopped"):
            return whole
        curve = [row for row in whole.curve if row["epoch"] <= until]
        best = max((row for row in curve if row["split"] == "val"), key=lambda row: (row["accuracy"], -row["loss"]))
        stopped = {"status": "stopped", "score": best["accuracy"], "best_epoch": best["epoch"], "evidence": {}}
        return replace(whole, curve=curve, **stopped)

    return at_rung


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

    return cut(script)


def flat(found):
    """Return the records of all generations in one list."""
    return [record for generation in found for record in generation]


def generations(stage, recipe, inputs, settings, script):
    """Run a stage by replay; return its records as lists, one per generation, in the order asked."""
    found = []
    while items := stage.plan(recipe, inputs, settings, sorted(flat(found), key=lambda record: record.order)):
        results = ReplayExecutor(script).run(items)
        found.append([Record(item, result) for item, result in zip(items, results, strict=True)])
    return found


def assert_cut_anywhere_goes_on(stage, recipe, inputs, settings, script, seed=0):
    """Cut a stage at every point, in any order of arrival: it asks for what is missing, and ends with the same.

    A search asks beside that for what is run later whatever is missing, and for nothing else.
    """
    rng = random.Random(seed)
    whole = generations(stage, recipe, inputs, settings, script)
    verdict = stage.judge(recipe, inputs, settings, flat(whole)).to_json()
    for index, generation in enumerate(whole):
        for count in range(len(generation) + 1):
            arrived = rng.sample(generation, count)
            history = sorted([*flat(whole[:index]), *arrived], key=lambda record: record.order)
            history = [Record.from_json(json.loads(json.dumps(record.to_json()))) for record in history]
            missing = [record.item for record in generation if record not in arrived]
            after = [record.item for record in whole[index + 1]] if index + 1 < len(whole) else []
            asked = stage.plan(recipe, inputs, settings, history)
            ahead = [item for item in asked if item not in missing] if missing and stage.TRAITS.searches else []
            assert [item for item in asked if item not in ahead] == (missing or after)
            assert {item.key for item in ahead} <= {record.item.key for record in flat(whole[index + 1 :])}
    shuffled = replay(stage, recipe, inputs, settings, script, shuffle=seed)
    assert stage.judge(recipe, inputs, settings, shuffled).to_json() == verdict
    return whole
