"""SWATS, SAM, Lookahead and Muon against other implementations, hand-written loops and torch's own."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.train.training_cases import make_case, without_clock
from tuner.core.errors import UsageError
from tuner.parts.optimizers import around, own
from tuner.recipe.registry import resolve
from tuner.train.loop import fit

TARGET = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.0, -1.0]])
SCALES = torch.tensor([[1.0, 3.0, 0.2], [2.0, 0.5, 1.0]])


def objective(weight):
    return (SCALES * (weight - TARGET).square()).sum()


def path(build, steps=60):
    weight = nn.Parameter(torch.zeros(2, 3))
    optimizer = build([weight])
    for _ in range(steps):
        optimizer.zero_grad()
        objective(weight).backward()
        optimizer.step()
    return weight.detach(), optimizer


def test_swats_in_its_first_phase_is_adam():
    ours, optimizer = path(lambda params: own.swats(params, lr=0.01, eps=1e-12), 40)
    adam, _ = path(lambda params: torch.optim.Adam(params, lr=0.01, eps=1e-12), 40)
    assert optimizer.param_groups[0]["phase"] == "adam"
    assert torch.allclose(ours, adam, atol=1e-4)


def test_swats_steps_weights_whose_first_gradient_comes_late_as_adam_does():
    pairs = [[nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))] for _ in range(2)]
    optimizers = [own.swats(pairs[0], lr=0.1), torch.optim.Adam(pairs[1], lr=0.1, eps=1e-9)]
    for step in range(23):
        for (early, late), optimizer in zip(pairs, optimizers, strict=True):
            early.grad = torch.tensor([1.0, -2.0]) * (1 + step % 3)
            late.grad = torch.tensor([0.5, 1.0]) * (1 + step % 2) if step >= 20 else None
            optimizer.step()
    assert optimizers[0].param_groups[0]["phase"] == "adam"
    assert torch.allclose(pairs[0][1], pairs[1][1], atol=1e-6)


def test_swats_estimates_the_rate_for_sgd_as_pytorch_optimizer_does():
    other = pytest.importorskip("pytorch_optimizer")
    theirs, one = path(lambda params: other.SWATS(params, lr=0.05, eps=1e-9, foreach=False), 30)
    ours, two = path(lambda params: own.swats(params, lr=0.05, eps=1e-9), 30)
    assert torch.allclose(ours, theirs, atol=1e-5)
    estimates = [next(iter(optimizer.state.values()))[key] for optimizer, key in ((one, "exp_avg2"), (two, "rate"))]
    assert torch.allclose(*estimates, rtol=1e-4) and float(estimates[0]) > 0


def test_swats_after_the_switch_is_sgd_with_the_rate_that_was_found():
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = own.swats([weight], lr=0.05, eps=1e-3)
    while optimizer.param_groups[0]["phase"] == "adam":
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()
    group = optimizer.param_groups[0]
    rate, before, buffer = group["lr"] * group["scale"], float(weight.detach()), 0.0
    for _ in range(3):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        buffer = 0.9 * buffer + 2 * before
        before -= rate * 0.1 * buffer
        optimizer.step()
        assert float(weight.detach()) == pytest.approx(before, rel=1e-4)


def test_sam_steps_by_the_gradient_at_the_worst_place_near_by():
    weight = nn.Parameter(torch.zeros(2, 3))
    optimizer = around.sam([weight], lr=0.1, rho=0.2)

    def closure():
        optimizer.zero_grad()
        loss = objective(weight)
        loss.backward()
        return loss

    found = optimizer.step(closure)
    grad = 2 * SCALES * (0 - TARGET)
    worst = 0.2 * grad / grad.norm()
    assert float(found.detach()) == pytest.approx(float(objective(torch.zeros(2, 3))))
    assert torch.allclose(weight.detach(), -0.1 * 2 * SCALES * (worst - TARGET), atol=1e-6)


def test_sam_moves_batch_norm_by_its_first_pass_only(tmp_path):
    code = """
def net(input_shape, num_classes):
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, num_classes))
"""
    case = make_case(tmp_path, code)
    states = []
    for name in ("sam", "sgd"):
        optimizer = {**case.tables["optimizer"], "name": name}
        tables = {**case.tables, "model": {"name": "mine.py:net"}, "optimizer": optimizer}
        training = fit(type(case)(case.folder, tables).setup(horizon_steps=1))
        states.append({key: item for key, item in training.model.state_dict().items() if key.startswith("1.")})
    for key in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(states[0][key], states[1][key])


def test_lookahead_goes_back_to_the_slow_weights_every_k_updates():
    ours, _ = path(lambda params: around.lookahead(params, lr=0.02, base="sgd", k=3, alpha=0.4), 7)
    slow, fast = torch.zeros(2, 3), torch.zeros(2, 3)
    for step in range(1, 8):
        fast = fast - 0.02 * 2 * SCALES * (fast - TARGET)
        if step % 3 == 0:
            slow = slow + 0.4 * (fast - slow)
            fast = slow.clone()
    assert torch.allclose(ours, fast, atol=1e-6)


def test_muon_steps_hidden_matrices_as_torchs_and_the_rest_as_adamw():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    x, y = torch.randn(20, 5), torch.arange(20) % 3
    before = {name: item.detach().clone() for name, item in model.named_parameters()}
    optimizer = own.muon(list(model.parameters()), lr=0.02, model=model, adamw_lr=1e-3)
    nn.functional.cross_entropy(model(x), y).backward()
    twins = {name: nn.Parameter(item) for name, item in before.items()}
    for name, item in model.named_parameters():
        twins[name].grad = item.grad.clone()
    torch.optim.Muon([twins["0.weight"], twins["2.weight"]], lr=0.02, momentum=0.95, weight_decay=0.1).step()
    rest = [twins[name] for name in twins if name not in ("0.weight", "2.weight")]
    torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1).step()
    optimizer.step()
    for name, item in model.named_parameters():
        assert torch.allclose(item, twins[name], atol=1e-7), name


def test_muon_says_so_where_the_model_has_no_hidden_matrix():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UsageError, match="muon has no hidden weight matrix to step"):
        own.muon(list(model.parameters()), lr=0.1, model=model)


@pytest.mark.parametrize(
    "table",
    [
        {"name": "swats", "lr": 0.01},
        {"name": "sam", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3},
        {"name": "lookahead", "lr": 0.01, "k": 2},
        {"name": "muon", "lr": 0.01},
        {"name": "lbfgs", "lr": 0.1, "max_iter": 4},
        {"name": "adafactor", "lr": 0.01},
        {"name": "rprop", "lr": 0.01},
    ],
    ids=lambda table: table["name"],
)
def test_one_and_four_epochs_are_five_under_a_schedule(tmp_path, table):
    overrides = {"optimizer": table, "schedule.name": "cosine", "model.depth": 2}
    parts, whole = (make_case(tmp_path / name, overrides=overrides) for name in "ab")
    assert parts.run(until=1, horizon_epochs=5).status == "stopped"
    assert without_clock(parts.run(horizon_epochs=5)) == without_clock(whole.run(horizon_epochs=5))
    assert len(list(parts.stage_dir.glob("checkpoints/*.state.pt"))) == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "sam", "lr": 0.1, "rho": 0.0}, r"optimizer\.rho: must be greater than 0"),
        ({"name": "sam", "lr": 0.1, "momentun": 0.9}, r"optimizer\.momentun: SGD\(\) takes no such argument.*momentum"),
        ({"name": "sam", "lr": 0.1, "base": "sgdd"}, r"unknown optimizer 'sgdd' - did you mean 'sgd'"),
        ({"name": "lookahead", "lr": 0.1, "base": "lbfgs"}, r"optimizer\.base: 'lbfgs' is no optimizer that another"),
        ({"name": "lookahead", "lr": 0.1, "k": 0}, r"optimizer\.k: must be an integer of at least 1"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path, table, message):
    setup = make_case(tmp_path, overrides={"optimizer": table}).setup()
    with pytest.raises(UsageError, match=message):
        setup.optimizer(setup.model())


def test_sam_refuses_fp16(tmp_path):
    from tuner.train.step import How, default_step

    weight = nn.Linear(2, 2)
    optimizer = around.sam(weight.parameters(), lr=0.1)
    how = How(scaler=torch.amp.GradScaler("cpu", enabled=True))
    with pytest.raises(UsageError, match="evaluates the loss more than once in an update, which does not go with fp16"):
        default_step(weight, (torch.ones(2, 2), torch.tensor([0, 1])), nn.functional.cross_entropy, optimizer, how)


def test_muon_refuses_groups_that_it_would_leave_out():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(UsageError, match=r"optimizer.groups: muon makes its own groups"):
        own.muon([{"params": list(model.parameters()), "weight_decay": 0.0}], lr=0.02, model=model)


def test_sparseadam_moves_the_rows_that_have_a_gradient_as_adam_does():
    table = nn.Embedding(5, 2, sparse=True)
    before, rows = table.weight.detach().clone(), torch.tensor([1, 3])
    optimizer = resolve("optimizer", "sparseadam", Path())(list(table.parameters()), lr=0.1)
    (table(rows) * torch.tensor([1.0, -3.0])).sum().backward()
    optimizer.step()
    moved = table.weight.detach() - before
    assert torch.allclose(moved[rows], torch.tensor([[-0.1, 0.1]] * 2), atol=1e-5)  # Adam's first step is lr long
    assert not moved[[0, 2, 4]].any()
