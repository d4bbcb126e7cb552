import base64
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from tests.train.training_cases import make_case
from tuner.checks.test_evaluation.measure import test_evaluation as evaluate_test
from tuner.checks.val_predictions import measure as predictions
from tuner.train import data as train_data

BCE = nn.functional.binary_cross_entropy_with_logits


def identity():
    model = nn.Linear(3, 3, bias=False)
    nn.init.eye_(model.weight)
    return model


def examples(outputs, targets):
    return torch.tensor(outputs, dtype=torch.float32), torch.tensor(targets)


VAL = examples([[9, 0, 0], [0, 9, 0], [0, 0, 9], [9, 0, 0], [0, 9, 0]], [0, 1, 0, 1, 1])


def test_val_predictions_are_one_bit_per_example(setup_of):
    setup = setup_of(VAL, identity, val=VAL, trained=SimpleNamespace(model=identity()))
    found = predictions.val_predictions(setup)
    bits = np.unpackbits(np.frombuffer(base64.b64decode(found.bits), dtype=np.uint8), count=found.n)
    assert bits.tolist() == [1, 1, 0, 0, 1]


def test_val_predictions_are_skipped_without_a_trained_model_or_class_scores(setup_of):
    assert "trained no model" in predictions.val_predictions(setup_of(VAL, identity, val=VAL)).why
    flat = SimpleNamespace(model=nn.Flatten(0))
    assert "not (examples, classes)" in predictions.val_predictions(setup_of(VAL, identity, val=VAL, trained=flat)).why


@pytest.mark.parametrize("shares", [False, True], ids=["logits", "probabilities"])
def test_areas_are_those_of_scikit_learn(shares):
    outputs = torch.randn(300, 4, generator=torch.Generator().manual_seed(0)).round(decimals=1)  # with ties
    targets = torch.arange(300) % 3
    outputs[range(300), targets] += 1
    given = outputs.double().softmax(1) if shares else outputs
    expected = [roc_auc_score(targets == c, outputs.double().softmax(1)[:, c]) for c in range(3)]
    *areas, absent = predictions.class_areas(given, targets)
    assert areas == pytest.approx(expected, abs=1e-6) and absent is None
    assert predictions.class_areas(outputs * float("inf"), targets) is None


@pytest.fixture
def with_test(setup_of, tmp_path, monkeypatch):
    setup = setup_of(VAL, identity)
    folder = tmp_path / "fine" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"model": {"weight": torch.eye(3)[[1, 0, 2]]}, "epoch": 3, "spec_id": "x"}, folder / "x.pt")

    class WithTest(type(setup.data)):
        pass

    def load(tables, env, with_test=False):
        assert with_test
        data = WithTest(VAL, VAL, 3, ["a", "b", "c"])
        data.tensors["test"] = examples([[9, 0, 0], [9, 0, 0], [0, 0, 9]], [1, 0, 2])
        return data

    monkeypatch.setattr(train_data, "load_data", load)
    return setup


def test_test_evaluation_reads_the_checkpoint_and_the_test_split(with_test):
    found = evaluate_test(with_test, checkpoint="fine/checkpoints/x.pt")
    # the checkpoint swaps the first two outputs: (9, 0, 0) is taken for class 1
    assert found.confusion == [[0, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert found.accuracy == pytest.approx(2 / 3)
    assert (found.n, found.class_names) == (3, ["a", "b", "c"])
    assert found.loss == pytest.approx(3.0, abs=0.01)  # one of three examples is wrong by 9 nats


SINGLE = """
def three():
    (x, y), (v, w) = [(x, y.clamp(max=1)) for x, y in load()]
    return (x, y), (v[:8], w[:8]), (v[8:], w[8:])
def net():
    return nn.Linear(4, 1)
def loss(outputs, targets):
    return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float())
"""


def test_the_test_loss_of_a_single_output_is_that_of_the_output_itself(tmp_path):
    overrides = {"data.source": "mine.py:three", "model": {"name": "mine.py:net"}, "loss.name": "mine.py:loss"}
    case = make_case(tmp_path, SINGLE, overrides)
    result = case.run(horizon_epochs=1)
    setup = case.setup(horizon_epochs=1)
    found = evaluate_test(setup, checkpoint=f"stage/checkpoints/{result.id}.pt")
    model = setup.model()
    model.load_state_dict(torch.load(case.stage_dir / "checkpoints" / f"{result.id}.pt")["model"])
    data = train_data.load_data(setup.tables, setup.env, with_test=True)
    outputs, targets = model(data.inputs("test"))[:, 0], data.targets("test")
    assert found.loss == pytest.approx(float(BCE(outputs, targets.float()).detach()), rel=1e-5)
    assert found.accuracy == pytest.approx(float(((outputs > 0) == targets).float().mean()))


def test_val_predictions_count_by_class(setup_of):
    setup = setup_of(VAL, identity, val=VAL, trained=SimpleNamespace(model=identity()))
    found = predictions.val_predictions(setup)
    assert found.class_counts == [2, 3]
    assert found.recall == [0.5, pytest.approx(2 / 3)]


@pytest.mark.parametrize(
    ("outputs", "targets", "auroc"),
    [
        ([[3.0, 0], [2.0, 0], [1.0, 0]], [0, 0, 1], 1.0),  # the wrong one is the least sure
        ([[1.0, 0], [2.0, 0], [3.0, 0]], [0, 0, 1], 0.0),
        ([[2.0, 0], [2.0, 0]], [0, 1], 0.5),
        ([[3.0, 0], [1.0, 0], [2.0, 0]], [0, 0, 1], 0.5),
        ([[3.0, 0]], [0], None),
    ],
)
def test_sureness_compares_every_right_answer_with_every_wrong_one(outputs, targets, auroc):
    found = predictions.sureness(*examples(outputs, targets))
    assert found.auroc == auroc
    assert found.right + found.wrong == len(targets)


def test_sureness_is_the_largest_probability():
    logits = predictions.sureness(*examples([[np.log(3.0), 0.0]], [0]))
    shares = predictions.sureness(*examples([[0.25, 0.75]], [1]))
    assert logits.sure_when_right == pytest.approx(0.75)
    assert shares.sure_when_right == pytest.approx(0.75)
    assert predictions.sureness(*examples([[float("nan"), 0.0]], [0])) is None


def test_labels_outside_the_classes_are_in_no_class(setup_of):
    val = (VAL[0], torch.tensor([0, 1, -100, 1, 7]))
    found = predictions.val_predictions(setup_of(VAL, identity, val=val, trained=SimpleNamespace(model=identity())))
    assert found.class_counts == [1, 2]


def test_ties_of_sureness_count_half():
    outputs = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    assert predictions.sureness(outputs, torch.tensor([0, 0, 1, 1])).auroc == 0.5
