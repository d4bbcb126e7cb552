"""Models that return their loss themselves: `loss.name = "model"`."""

import pytest
import torch
from torch.nn import functional as F

from tests.train.training_cases import make_case, without_clock
from tuner.core.errors import UsageError
from tuner.train.loop import fit
from tuner.train.own_loss import told

CODE = """
from dataclasses import dataclass
from torch.nn import functional as F

@dataclass
class Output:
    logits: torch.Tensor
    loss: torch.Tensor = None

class Own(nn.Module):
    def __init__(self, form="tuple", smoothing=0.0):
        super().__init__()
        self.form, self.smoothing = form, smoothing
        self.net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
        self.calls = 0

    def forward(self, x, targets=None):
        self.calls += 1
        logits = self.net(x)
        loss = None if targets is None else F.cross_entropy(logits, targets, label_smoothing=self.smoothing)
        if self.form == "tuple":
            return logits, loss
        return Output(logits, loss) if self.form == "dataclass" else {"logits": logits, "loss": loss}

class Plain(Own):
    def forward(self, x):
        return self.net(x)

class Needs(Own):
    def forward(self, x, targets):
        return self.net(x), F.cross_entropy(self.net(x), targets)

class Silent(Own):
    def forward(self, x, targets=None):
        return self.net(x)
"""


def case(folder, model="Own", **more):
    return make_case(folder, CODE, {"model": {"name": f"mine.py:{model}", **more}, "loss": {"name": "model"}})


@pytest.mark.parametrize("form", ["tuple", "dict", "dataclass"])
def test_a_model_that_returns_its_loss_trains_as_with_that_loss_outside(form, tmp_path):
    own = case(tmp_path / "own", form=form).run()
    outside = {"model": {"name": "mine.py:Plain"}, "loss": {"name": "cross_entropy"}}
    plain = make_case(tmp_path / "plain", CODE, outside).run()
    ours, theirs = (without_clock(result)["curve"] for result in (own, plain))
    assert own.status == "completed" and ours == theirs


def test_the_model_is_called_once_for_a_step_and_is_given_the_targets(tmp_path):
    setup = case(tmp_path).setup(horizon_steps=5)
    assert fit(setup).model.calls == 5


def test_the_loss_of_outputs_that_the_model_did_not_make_is_the_usual_one_that_it_equals(tmp_path):
    setup = case(tmp_path).setup()
    before = torch.get_rng_state()
    outputs, targets = torch.tensor([[3.0, 0.0, 1.0], [0.0, 5.0, 2.0]]), torch.tensor([0, 2])
    assert torch.allclose(setup.loss()(outputs, targets), F.cross_entropy(outputs, targets))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_that_equals_none_of_the_usual_ones_is_known_of_the_models_outputs_alone(tmp_path):
    setup = case(tmp_path, smoothing=0.3).setup()
    outputs, targets = torch.zeros(2, 3), torch.tensor([0, 2])
    with pytest.raises(NotImplementedError, match="the model gives no loss of its own here"):
        setup.loss()(outputs, targets)
    inputs, wanted = next(iter(setup.data.batches("train", 8)))
    model = setup.model()
    with told(wanted):
        found = setup.loss()(model(inputs), wanted)
    assert torch.allclose(found, F.cross_entropy(model.net(inputs), wanted, label_smoothing=0.3))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("Plain", r"forward\(\) of Plain has no argument for targets \(it has: x\)"),
        ("Needs", r"forward\(\) of Needs cannot do without targets"),
    ],
)
def test_a_forward_that_cannot_be_given_targets_is_refused_with_the_way(model, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        case(tmp_path, model).setup().model()


def test_a_model_that_gives_no_loss_is_refused_before_anything_runs(tmp_path):
    from tuner.train.preflight import preflight

    found = case(tmp_path, "Silent")
    problems = preflight({**found.tables, "name": "case"}, found.env).problems
    assert any("the model gives no loss of its own here" in str(problem) for problem in problems)


def test_step_1_says_of_an_own_cross_entropy_what_it_says_of_torchs(tmp_path):
    from tuner.checks.init_battery.measure import init_battery

    only = ("initial_loss", "loss_function", "layers", "loss_calls", "one_step")
    plain = make_case(tmp_path / "plain", CODE, {"model": {"name": "mine.py:Plain"}, "loss": {"name": "cross_entropy"}})
    ours, theirs = (init_battery(made.setup(), only=only) for made in (case(tmp_path / "own"), plain))
    for name in ("initial_loss", "layers"):
        assert ours[name] == {**theirs[name], **({"layers": ours[name]["layers"]} if name == "layers" else {})}
    assert ours["loss_calls"] == theirs["loss_calls"]
    assert ours["loss_function"]["free_floor"] == theirs["loss_function"]["free_floor"] == pytest.approx(0, abs=1e-3)
