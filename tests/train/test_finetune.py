"""Fine-tuning: weights that fit in part, what is frozen and released, rates of the body; samplers."""

import pytest
import torch
from torch import nn

from tests.train.training_cases import make_case, without_clock
from tuner.core.errors import InputError, UsageError
from tuner.parts import samplers
from tuner.recipe.model import Recipe
from tuner.train.finetune import load_into, read_weights
from tuner.train.loop import fit

CODE = """
class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())
        self.second = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU())
        self.head = nn.Linear(6, classes)
    def forward(self, x):
        return self.head(self.second(self.first(x)))
def net(input_shape, num_classes):
    return Net(num_classes)
"""


def case_of(folder, finetune, **more):
    overrides = {"model": {"name": "mine.py:net"}, "finetune": finetune, **more}
    return make_case(folder, CODE, overrides)


def moved(setup, epochs):
    training = fit(setup)
    before = setup.model().state_dict()
    return {name for name, item in training.model.state_dict().items() if not torch.equal(item, before[name])}


HEAD = {"head.weight", "head.bias"}
BASE = {"name": "r", "data": {"source": "digits"}, "model": {"name": "mlp"}}


@pytest.mark.parametrize(
    ("finetune", "message"),
    [
        ({"way": "all", "blocks": 2}, r"finetune\.blocks: is of way = 'last-blocks', not of 'all'"),
        ({"way": "head", "factor": 0.5}, r"finetune\.factor: is of way = 'discriminative', not of 'head'"),
        (
            {"way": "discriminative", "release_epoch": 2},
            r"finetune\.release_epoch: is of way = 'head' or 'last-blocks'",
        ),
    ],
)
def test_a_key_that_this_way_of_fine_tuning_does_not_read_is_refused(finetune, message):
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate({**BASE, "finetune": finetune})
    searched = {"finetune.way": {"choices": ["all", "head", "last-blocks", "discriminative"]}}
    assert Recipe.model_validate({**BASE, "finetune": finetune, "search": searched}).finetune is not None


def test_a_model_of_the_teacher_without_its_weights_is_refused():
    with pytest.raises(ValueError, match="model is the distilled teacher's, and distill names no file"):
        Recipe.model_validate({**BASE, "teacher": {"mean_teacher": 0.9, "model": {"name": "mlp"}}})


def test_the_head_alone_moves_and_batch_norm_stays_in_eval_mode(tmp_path):
    assert moved(case_of(tmp_path, {"way": "head"}).setup(horizon_epochs=1), 1) == HEAD


@pytest.mark.parametrize("head", ["bnneck", {"name": "pcb", "parts": 3, "width": 2}], ids=["bnneck", "pcb"])
def test_a_head_of_several_layers_moves_whole_and_alone(tmp_path, head):
    overrides = {"model.head": head, "optimizer.lr": 0.1, "finetune": {"way": "head"}, "model.name": "mine.py:net"}
    setup = make_case(tmp_path, CODE, {"model": {"name": "mine.py:net"}, **overrides}).setup(horizon_epochs=2)
    trained = {name for name, item in setup.model().named_parameters() if item.requires_grad and "head" in name}
    found = moved(setup, 2)
    assert trained <= found and all(name.startswith("head.") for name in found)
    assert len(trained) > 1


def test_what_the_model_itself_does_not_train_is_not_released(tmp_path):
    code = CODE + "def fixed(input_shape, num_classes):\n    model = Net(num_classes)\n"
    code += "    model.first[0].weight.requires_grad_(False)\n    return model\n"
    overrides = {"model": {"name": "mine.py:fixed"}, "finetune": {"way": "head", "release_epoch": 1}}
    found = moved(make_case(tmp_path, code, overrides).setup(horizon_epochs=2), 2)
    assert "first.0.weight" not in found and "first.0.bias" in found


def test_statistics_move_where_batch_norm_is_not_frozen(tmp_path):
    setup = case_of(tmp_path, {"way": "head", "freeze_norm": False}).setup(horizon_epochs=1)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert moved(setup, 1) == HEAD | {f"{part}.1.{name}" for part in ("first", "second") for name in statistics}


def test_the_last_blocks_move_with_the_head(tmp_path):
    found = moved(case_of(tmp_path, {"way": "last-blocks", "blocks": 1}).setup(horizon_epochs=1), 1)
    assert found > HEAD and {name.split(".")[0] for name in found} == {"head", "second"}
    with pytest.raises(UsageError, match="2 of the model's 2 blocks before the head leave nothing frozen"):
        fit(case_of(tmp_path, {"way": "last-blocks", "blocks": 2}).setup(horizon_epochs=1))


@pytest.mark.parametrize("optimizer", [{"name": "sgd", "momentum": 0.9}, {"name": "adamw"}], ids=["sgd", "adamw"])
def test_what_is_frozen_is_released_after_its_epoch(tmp_path, optimizer):
    case = case_of(tmp_path, {"way": "head", "release_epoch": 1}, optimizer=optimizer)
    one = fit(case.setup(horizon_epochs=1)).model.state_dict()
    two = fit(case.setup(horizon_epochs=2)).model.state_dict()
    assert not torch.equal(one["first.0.weight"], two["first.0.weight"])
    assert not torch.equal(one["first.1.running_mean"], two["first.1.running_mean"])


def test_release_is_the_same_after_a_break(tmp_path):
    parts, whole = (case_of(tmp_path / name, {"way": "head", "release_epoch": 2}) for name in "ab")
    parts.run(until=1, horizon_epochs=4)
    parts.run(until=3, horizon_epochs=4)
    assert without_clock(parts.run(horizon_epochs=4)) == without_clock(whole.run(horizon_epochs=4))


def test_discriminative_rates_differ_by_the_factor(tmp_path):
    setup = case_of(tmp_path, {"way": "discriminative"}, **{"optimizer.lr": 0.2}).setup()
    model = setup.model()
    rates = {id(item): group["lr"] for group in setup.optimizer(model).param_groups for item in group["params"]}
    assert {name: rates[id(item)] for name, item in model.named_parameters() if name in HEAD} == dict.fromkeys(
        HEAD, 0.2
    )
    assert rates[id(model.first[0].weight)] == pytest.approx(0.02)


def test_the_rate_is_1e_4_where_the_recipe_says_none():
    raw = {"name": "a", "data": {"source": "digits"}, "model": {"name": "mlp"}, "finetune": {}}
    assert Recipe.model_validate(raw).optimizer.lr == 1e-4
    assert Recipe.model_validate({**raw, "optimizer": {"lr": 0.3}}).optimizer.lr == 0.3


@pytest.mark.parametrize("kind", ["plain", "module", "nested", "safetensors"])
def test_weights_of_another_head_are_loaded_but_for_it(tmp_path, kind):
    setup = case_of(tmp_path, {"weights": f"w.{'safetensors' if kind == 'safetensors' else 'pt'}"}).setup()
    case = make_case(tmp_path, CODE, {"model": {"name": "mine.py:net"}})
    source = case.setup().model(seed=9)
    source.head = nn.Linear(6, 11)
    state = {name: item.contiguous() for name, item in source.state_dict().items()}
    if kind == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, tmp_path / "w.safetensors")
    else:
        state = {f"module.{name}": item for name, item in state.items()} if kind == "module" else state
        torch.save({"state_dict": state, "epoch": 3} if kind == "nested" else state, tmp_path / "w.pt")
    model = setup.model()
    assert torch.equal(model.first[0].weight, source.first[0].weight)
    assert torch.equal(model.second[1].running_var, source.second[1].running_var)
    assert torch.equal(model.head.weight, case.setup().model().head.weight)  # drawn again, by the trial's seed


def test_what_did_not_fit_is_reported_by_name_and_shape(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
    file = {"0.weight": torch.ones(3, 2), "2.weight": torch.ones(9, 3), "aux.weight": torch.ones(1)}
    found = load_into(model, file, tmp_path)
    assert found.loaded == ("0.weight",)
    assert found.misfits == (("2.weight", (9, 3), (4, 3)),)
    assert found.missing == ("0.bias", "2.bias") and found.unused == ("aux.weight",)
    assert found.words()[:2] == [
        "1 of the model's 4 loaded",
        "2.weight: (9, 3) in the file, (4, 3) in the model: drawn again",
    ]


def test_a_file_that_is_none_of_weights_or_does_not_fit_is_refused(tmp_path):
    with pytest.raises(InputError, match="finetune.weights: no such file: .*w.pt"):
        read_weights(tmp_path / "w.pt")
    (tmp_path / "w.pt").write_text("no weights")
    with pytest.raises(InputError, match="w.pt: not a file of weights"):
        read_weights(tmp_path / "w.pt")
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="it holds no state dict"):
        read_weights(tmp_path / "w.pt")
    with pytest.raises(InputError, match="nothing fits the model: the file has a, ...; the model has weight, bias"):
        load_into(nn.Linear(2, 2), {"a": torch.ones(2, 2)}, tmp_path)


# --- samplers ---------------------------------------------------------------------------------------------------------

LABELS = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)


def test_balanced_draws_what_torchs_weighted_sampler_draws():
    from torch.utils.data import WeightedRandomSampler

    weights = (1 / torch.bincount(LABELS).double())[LABELS]
    expected = list(WeightedRandomSampler(weights, 100, generator=torch.Generator().manual_seed(4)))
    assert samplers.balanced(LABELS, torch.Generator().manual_seed(4)).tolist() == expected


def test_by_class_takes_every_example_once_in_groups_of_a_class():
    order = samplers.by_class(LABELS, torch.Generator().manual_seed(0), per_class=4)
    assert sorted(order.tolist()) == list(range(100))
    runs = LABELS[order]
    changes = int((runs[1:] != runs[:-1]).sum())
    assert changes <= 26  # 15 + 8 + 3 groups


def test_a_recipe_draws_by_its_sampler_and_twice_the_same(tmp_path):
    case = make_case(tmp_path, overrides={"data.sampler": "balanced"})
    data = case.setup().data
    one, other = ([y.tolist() for _, y in data.epoch(0, 1, 8)] for _ in range(2))
    assert one == other and one != [y.tolist() for _, y in data.epoch(0, 2, 8)]
    code = "def first(targets, generator, count=8):\n    return torch.arange(count)\n"
    data = make_case(tmp_path, code, {"data.sampler": {"name": "mine.py:first", "count": 16}}).setup().data
    assert torch.cat([y for _, y in data.epoch(0, 1, 8)]).tolist() == data.targets("train")[:16].tolist()


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ("balance", "unknown sampler 'balance' - did you mean 'balanced'"),
        ({"name": "by_class", "k": 3}, r"data\.sampler\.k: by_class\(\) takes no such argument"),
        ({"per_class": 3}, r"data\.sampler: a table needs a name"),
    ],
)
def test_a_wrong_sampler_is_refused(tmp_path, sampler, message):
    with pytest.raises(UsageError, match=message):
        make_case(tmp_path, overrides={"data.sampler": sampler}).setup()


def test_weighted_draws_what_torchs_weighted_sampler_draws():
    from torch.utils.data import WeightedRandomSampler

    weights = torch.rand(100, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = list(WeightedRandomSampler(weights, 100, generator=torch.Generator().manual_seed(4)))
    assert samplers.weighted(LABELS, torch.Generator().manual_seed(4), weights).tolist() == expected


def test_weighted_needs_weights():
    with pytest.raises(UsageError, match="weighted needs a weight for each example"):
        samplers.weighted(LABELS, torch.Generator())
