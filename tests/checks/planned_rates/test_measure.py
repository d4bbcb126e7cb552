"""The schedule simulated over the planned run: planted mistakes, and schedules that look like them and are sound."""

import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from tests.checks.asking import judged
from tests.train.training_cases import make_case
from tuner.checks.planned_rates.measure import planned_rates
from tuner.checks.tools.frame import CannotProbe
from tuner.parts import schedules

STEPS = 6  # per epoch: 200 examples in batches of 32
EPOCHS = 10
TOTAL = STEPS * EPOCHS


def probe(setup_of, blobs, schedule, every="step", **more):
    settings = {"schedule": schedule, "schedule_every": every, "schedule_name": "own", **more}
    setup = setup_of(blobs(), lambda: nn.Linear(20, 10), **settings)
    return planned_rates(setup, horizons={"coarse": 3, "fine": EPOCHS})


def findings(evidence):
    found, _, _ = judged("check-init", {"planned_rates": evidence})
    return {finding.code: finding for finding in found if finding.code.startswith("IN14")}


def built_in(name, **args):
    fn = getattr(schedules, name)
    names = fn.__code__.co_varnames[: fn.__code__.co_argcount]

    def build(optimizer, total):
        offered = {"total_steps": total, "steps_per_epoch": STEPS}
        return fn(optimizer, **{key: value for key, value in offered.items() if key in names}, **args)

    return build


HEALTHY = {
    "constant": (built_in("constant"), "step", "constant"),
    "constant with warm-up": (built_in("constant", warmup_epochs=1), "step", "constant"),
    "cosine": (built_in("cosine"), "step", "cosine"),
    "cosine with a warm-up of a tenth": (built_in("cosine", warmup_epochs=1), "step", "cosine"),
    "linear": (built_in("linear"), "step", "linear"),
    "one cycle": (built_in("one_cycle"), "step", "one_cycle"),
    "step decay": (built_in("step", step_epochs=3), "step", "step"),
    "two drops of ten, late": (built_in("multistep", milestones=[6, 8]), "step", "multistep"),
    "exponential": (built_in("exponential"), "step", "exponential"),
    "inverse time": (built_in("inverse_time"), "step", "inverse_time"),
    "warm restarts, growing": (
        lambda o, n: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=STEPS, T_mult=2), "step", "own",
    ),
    "a restart per epoch": (lambda o, n: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=STEPS), "step", "own"),
    "triangles of two epochs": (
        lambda o, n: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=STEPS, cycle_momentum=False), "step", "own",
    ),
    "torch's cosine by epoch": (lambda o, n: lr_scheduler.CosineAnnealingLR(o, T_max=n), "epoch", "own"),
    "a first update of rate 0": (
        lambda o, n: lr_scheduler.LambdaLR(o, lambda at: min(1.0, at / STEPS) * (1 - at / n)), "step", "own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HEALTHY)
def test_sound_schedule_gives_at_most_a_note(setup_of, blobs, case):
    schedule, every, name = HEALTHY[case]
    length = (lambda o, n: schedule(o, EPOCHS)) if every == "epoch" else schedule
    seen = findings(probe(setup_of, blobs, length, every, schedule_name=name))
    assert all(finding.severity == "note" for finding in seen.values()), seen


MISTAKES = {
    "steps counted as epochs": (
        lambda o, n: lr_scheduler.StepLR(o, step_size=3, gamma=0.1), "step", "IN140", "error",
    ),
    "exponential stepped per update": (lambda o, n: lr_scheduler.ExponentialLR(o, 0.85), "step", "IN140", "warn"),
    "a first epoch of rate 0": (
        lambda o, n: lr_scheduler.LambdaLR(o, lambda at: min(1.0, at / 3)), "epoch", "IN140", "warn",
    ),
    "warm-up beyond the run": (
        lambda o, n: lr_scheduler.LambdaLR(o, lambda at: min(1.0, (at + 1) / (2 * n))), "step", "IN141", "warn",
    ),
    "T_max in epochs": (lambda o, n: lr_scheduler.CosineAnnealingLR(o, T_max=2), "step", "IN142", "warn"),
    "T_max is half of the run": (
        lambda o, n: lr_scheduler.CosineAnnealingLR(o, T_max=n // 2), "step", "IN142", "warn",
    ),
    "milestones of another recipe": (
        lambda o, n: lr_scheduler.MultiStepLR(o, [30, 60, 90]), "epoch", "IN143", "warn",
    ),
    "T_max of a longer run": (lambda o, n: lr_scheduler.CosineAnnealingLR(o, T_max=10 * n), "step", "IN143", "warn"),
    "a cycle that is too short": (
        lambda o, n: lr_scheduler.OneCycleLR(o, 0.1, total_steps=10), "step", "IN144", "error",
    ),
    "growth without end": (lambda o, n: lr_scheduler.ExponentialLR(o, 1.1), "step", "IN144", "warn"),
    "rate 0": (lambda o, n: lr_scheduler.LambdaLR(o, lambda at: 0.0), "step", "IN144", "error"),
    "negative": (lambda o, n: lr_scheduler.LambdaLR(o, lambda at: 1 - 2 * at / n), "step", "IN144", "error"),
    "not a number": (lambda o, n: lr_scheduler.LambdaLR(o, lambda at: math.nan), "step", "IN144", "error"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_planted_mistake_is_found(setup_of, blobs, case):
    schedule, every, code, severity = MISTAKES[case]
    seen = findings(probe(setup_of, blobs, schedule, every))
    assert seen[code].severity == severity
    assert seen[code].cause == "schedule-mistake"


def test_rates_are_those_that_training_would_have(setup_of, blobs):
    run = probe(setup_of, blobs, lambda o, n: lr_scheduler.StepLR(o, 2, 0.5), "epoch").runs["coarse"]
    assert (run.epochs, run.steps) == (3, 18)
    assert run.rates == pytest.approx([1.0] * 12 + [0.5] * 6)


def test_schedule_with_rates_of_its_own_is_a_note(setup_of, blobs):
    own = lambda o, n: lr_scheduler.OneCycleLR(o, 0.1, total_steps=n)  # noqa: E731
    assert findings(probe(setup_of, blobs, own))["IN145"].severity == "note"
    assert "IN145" not in findings(probe(setup_of, blobs, built_in("one_cycle")))


def test_what_only_the_shorter_run_shows_is_a_note(setup_of, blobs):
    seen = findings(probe(setup_of, blobs, built_in("constant", warmup_epochs=2.5), schedule_name="constant"))
    assert {code: finding.severity for code, finding in seen.items()} == {"IN141": "note"}
    assert "coarse's 3 epochs" in seen["IN141"].title


def test_schedule_that_watches_the_val_loss_is_not_simulated(setup_of, blobs):
    with pytest.raises(CannotProbe, match="follows the val loss"):
        probe(setup_of, blobs, lambda o, n: lr_scheduler.ReduceLROnPlateau(o), "epoch")


def test_simulation_moves_nothing(setup_of, blobs):
    models = []

    def model():
        models.append(nn.Linear(20, 10))
        return models[-1]

    planned_rates(setup_of(blobs(), model), horizons={"fine": 2})
    torch.manual_seed(0)
    assert torch.equal(models[0].weight, nn.Linear(20, 10).weight)


def test_optimizer_with_a_rate_of_its_own_is_a_warning(setup_of, blobs):
    setup = setup_of(blobs(), lambda: nn.Linear(20, 10))
    setup.optimizer = lambda model, lr=None: torch.optim.SGD(model.parameters(), lr=1e-6)
    assert findings(planned_rates(setup))["IN145"].severity == "warn"


def test_the_optimizers_groups_are_named_with_their_settings(tmp_path):
    groups = ["no_decay_on_norms", {"name": "head_lr", "factor": 2.0}]
    case = make_case(tmp_path, "", {"optimizer.groups": groups, "optimizer.weight_decay": 0.01})
    found = {tuple(group.parameters): (group.lr, group.weight_decay) for group in planned_rates(case.setup()).groups}
    names = [name for name, _ in case.setup().model().named_parameters()]
    first, bias, head, head_bias = names
    assert found == {
        (first,): (pytest.approx(0.1), 0.01),
        (bias,): (pytest.approx(0.1), 0.0),
        (head,): (pytest.approx(0.2), 0.01),
        (head_bias,): (pytest.approx(0.2), 0.0),
    }
