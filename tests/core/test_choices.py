import pytest

from tuner.core.choices import checked

SPACE = {
    "optimizer.lr": {"low": 1e-3, "high": 0.1, "log": True, "reason": "the best"},
    "model.width": {"low": 16, "high": 64, "log": False, "step": 16, "int": True},
    "optimizer.name": {"choices": ["sgd", "adam"], "when": {"model.name": "mlp"}},
    "optimizer.weight_decay": {"auto": True},
}
SWEEP = {"lr": 0.01, "lr_low": 1e-3, "lr_high": 0.1, "precision": "bf16", "precision_reason": "as measured"}
COARSE = {"top": [{"params": {"optimizer.lr": 0.01}, "val_loss": 0.4, "trial": "a1"}], "space": SPACE}
FINE = {"params": {"optimizer.lr": 0.01}, "trial": "a1", "checkpoint": "fine/checkpoints/a1.pt", "epochs": 3, "seed": 0}


@pytest.mark.parametrize("choice", [{}, SWEEP, COARSE, FINE, {"precision": "fp32"}])
def test_what_stages_write_is_read_as_it_is(choice):
    assert checked(choice) == choice


def without(table, key):
    return {name: value for name, value in table.items() if name != key}


def spaced(key, **changes):
    entry = {name: value for name, value in {**SPACE[key], **changes}.items() if value is not None}
    return {**COARSE, "space": {**SPACE, key: entry}}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (without(SWEEP, "lr_low"), "lr_low is not there"),
        ({**SWEEP, "lr": "0.01 or so"}, "lr: .*number"),
        ({**SWEEP, "lr_high": -1}, "lr_high: .*greater than 0"),
        ({**SWEEP, "lr_high": float("inf")}, "lr_high: .*finite"),
        ({**SWEEP, "precision": 16}, "precision: .*string"),
        ({**COARSE, "top": {"params": {}}}, "top"),
        ({**COARSE, "top": [{"trial": "a1"}]}, "top.0.params: .*required"),
        ({**COARSE, "space": []}, "space: .*(mapping|dictionary)"),
        (spaced("optimizer.lr", high=None), "a range has a low and a high"),
        (spaced("optimizer.lr", low=None, high=None), "neither a range nor choices"),
        (spaced("optimizer.lr", low=1.0), "low = 1.0 is above high = 0.1"),
        (spaced("optimizer.lr", low=0.0), "low = 0.0 has no logarithm"),
        (spaced("optimizer.name", choices=[]), "space.optimizer.name.choices"),
        (spaced("optimizer.name", when=3), "space.optimizer.name.when"),
        ({**FINE, "params": [1]}, "params: .*(mapping|dictionary)"),
        ({**FINE, "epochs": 0}, "epochs: .*greater than 0"),
    ],
)
def test_a_choice_that_no_stage_writes_is_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        checked(choice)
