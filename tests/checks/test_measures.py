import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.checks.asking import ask
from tests.checks.probe_models import mlp, zero
from tests.train.training_cases import make_case
from tuner.checks.data_scan import measure as scanning
from tuner.checks.data_scan.measure import data_scan
from tuner.checks.init_battery.measure import init_battery
from tuner.checks.initial_loss.measure import initial_loss
from tuner.checks.initial_loss.rules import loss_too_high, values_far_from_zero
from tuner.checks.input_scale.measure import input_scale
from tuner.checks.labels_fit.measure import labels_fit
from tuner.checks.labels_shifted.measure import labels_shifted
from tuner.checks.loss_function.measure import loss_function
from tuner.checks.near_copies.measure import near_copies
from tuner.checks.own_evaluation.measure import own_evaluation
from tuner.checks.relatives.measure import relatives
from tuner.checks.single_features.measure import single_features
from tuner.checks.splits_compared.measure import splits_compared
from tuner.checks.tools import cost
from tuner.checks.tools import examples as reading
from tuner.checks.tools.frame import BATTERY, CannotProbe, dropout_off
from tuner.core.errors import UserCodeError
from tuner.tasks.classification import Positions
from tuner.tasks.regression import Regression

# -- the loss ---------------------------------------------------------------------------------------------------


def test_initial_loss_is_log_c_for_a_zero_head(setup_of, blobs):
    found = initial_loss(setup_of(blobs(), mlp(head=zero)))
    assert found.init_losses == pytest.approx([math.log(10)] * 3, abs=1e-5)
    assert found.loss_at_uniform == pytest.approx(math.log(10), abs=1e-5)
    assert found.init_loss_std == pytest.approx(0, abs=1e-6)


def test_initial_loss_at_prior_is_the_entropy_of_the_labels(setup_of, blobs):
    inputs, _ = blobs(100)
    targets = torch.tensor([0] * 90 + [1] * 10)
    model = lambda: nn.Linear(20, 2)  # noqa: E731
    found = initial_loss(setup_of((inputs, targets), model, batch_size=100))
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert found.prior_entropy == pytest.approx(entropy)
    assert found.loss_at_prior == pytest.approx(entropy, abs=1e-5)
    assert found.loss_at_uniform == pytest.approx(math.log(2), abs=1e-5)


def test_initial_loss_switches_dropout_off_but_not_functional_dropout(setup_of, blobs):
    class Functional(nn.Linear):
        def forward(self, inputs):
            return F.dropout(super().forward(inputs), 0.5, self.training)

    quiet = initial_loss(setup_of(blobs(), mlp(nn.Dropout(0.9), head=zero)))
    loud = initial_loss(setup_of(blobs(), lambda: Functional(20, 10)))
    assert not quiet.random_in_train_mode
    assert loud.random_in_train_mode


@pytest.mark.parametrize(("reduction", "ratio"), [("mean", 1.0), ("sum", 2.0)])
def test_doubled_batch_doubles_a_summed_loss_only(setup_of, blobs, reduction, ratio):
    loss = nn.CrossEntropyLoss(reduction=reduction)
    assert initial_loss(setup_of(blobs(), mlp(), loss=loss)).doubled_batch_ratio == pytest.approx(ratio, abs=1e-4)


def test_initial_loss_says_that_the_head_is_too_narrow(setup_of, blobs):
    found = initial_loss(setup_of(blobs(), lambda: nn.Linear(20, 5)))
    assert found.too_narrow
    assert found.output_shape == [5]


def far_off(count=200):
    """Return rows, and a value of each that is near 20."""
    inputs = torch.randn(count, 20, generator=torch.Generator().manual_seed(0))
    return inputs, inputs[:, 0] + 20


@pytest.mark.parametrize(("scale", "codes"), [(1, {"IN149"}), (300, {"IN102", "IN149"})], ids=["far off", "exploding"])
def test_values_far_from_zero_are_no_exploding_init(setup_of, scale, codes):
    def model():
        net = mlp()()
        net[2] = nn.Linear(16, 1)
        nn.init.normal_(net[2].weight, std=0.3 * scale)
        return nn.Sequential(net, nn.Flatten(0))

    found = initial_loss(setup_of(far_off(), model, loss=F.mse_loss, num_classes=1, data={"task": Regression()}))
    assert found.loss_at_zero == pytest.approx(401, rel=0.01)
    rules = [loss_too_high, values_far_from_zero]
    assert {finding.code for rule in rules if (finding := ask(rule, found)) is not None} == codes


def coral(outputs, targets):
    """Return the loss of ordered classes: one output for each threshold between two of them."""
    above = (targets[:, None] > torch.arange(outputs.shape[1])).float()
    return F.binary_cross_entropy_with_logits(outputs, above)


def test_a_loss_of_ordered_classes_takes_one_output_less(setup_of, blobs):
    found = initial_loss(setup_of(blobs(), lambda: nn.Linear(20, 9), loss=coral, num_classes=10))
    assert found.narrow and not found.too_narrow
    assert found.init_loss > 0


def test_initial_loss_takes_all_examples_where_there_are_few(setup_of, blobs):
    assert initial_loss(setup_of(blobs(40), mlp(), batch_size=32)).examples == 40


def test_loss_function_finds_the_softmax_floor(setup_of, blobs):
    found = loss_function(setup_of(blobs(), mlp(nn.Softmax(1))))
    assert found.kind == "probabilities"
    assert found.own_floor == pytest.approx(1.4612, abs=1e-3)
    assert found.free_floor == pytest.approx(0, abs=1e-3)


def test_loss_function_says_minus_one_over_c_for_nll_on_probabilities(setup_of, blobs):
    found = loss_function(setup_of(blobs(), mlp(nn.Softmax(1)), loss=F.nll_loss))
    assert found.uniform == pytest.approx(-0.1, abs=1e-5)
    assert found.own_floor == pytest.approx(-1, abs=1e-3)


def words(count=64, length=6):
    """Return rows of numbers of words, and a class for each: the remainder of the word."""
    given = torch.randint(0, 12, (count, length), generator=torch.Generator().manual_seed(0))
    return given, given % 4


class OfWords(nn.Module):
    """Scores of four classes for each word, in the last dimension, through `end`."""

    def __init__(self, end):
        super().__init__()
        self.words, self.head, self.end = nn.Embedding(12, 8), nn.Linear(8, 4), end

    def forward(self, given):
        return self.end(self.head(self.words(given)), -1)


@pytest.mark.parametrize(
    ("end", "loss", "kind", "floor"),
    [
        (torch.log_softmax, F.nll_loss, "log-probabilities of the last dimension", 0.0),
        (torch.softmax, F.cross_entropy, "probabilities of the last dimension", math.log(math.e + 3) - 1),
    ],
)
def test_loss_function_knows_a_softmax_over_the_last_dimension(setup_of, end, loss, kind, floor):
    own = lambda outputs, targets: loss(outputs.reshape(-1, 4), targets.reshape(-1))  # noqa: E731
    found = loss_function(setup_of(words(), lambda: OfWords(end), loss=own, data={"task": Positions()}))
    assert found.kind == kind and not found.own_unbounded
    assert found.own_floor == pytest.approx(floor, abs=2e-2)
    assert found.uniform == pytest.approx(math.log(4), abs=1e-5)


# -- the data ---------------------------------------------------------------------------------------------------


def test_data_scan_counts_what_was_planted(setup_of):
    inputs = torch.arange(60, dtype=torch.float32).reshape(20, 3)
    inputs[:, 2] = 7
    inputs[4, 1] = float("nan")
    inputs[9] = inputs[3]
    targets = torch.arange(20) % 2
    val = torch.cat([inputs[5:7], inputs[5:6] + 100]), torch.tensor([1, 0, 0])
    found = data_scan(setup_of((inputs, targets), mlp(), val=val), scan_chunk=7)
    train = found.train
    assert (train.n, train.shape, train.dtype) == (20, [3], "float32")
    assert (train.non_finite, train.first_non_finite) == (1, "train row 4, column 1")
    assert train.constant_columns == ["column 2"]
    assert train.class_counts == [10, 10]
    assert (train.duplicates, train.first_duplicate) == (1, ["train row 3", "train row 9"])
    assert train.conflicting == 0
    assert (found.across.duplicates, found.across.agreeing) == (2, 2)


def test_data_scan_agrees_with_torch_on_mean_and_std(setup_of):
    images = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = data_scan(setup_of((images, torch.arange(50) % 5), mlp()), scan_chunk=16).train
    flat = images.double().transpose(0, 1).flatten(1)
    assert found.mean == pytest.approx(flat.mean(1).tolist())
    assert found.std == pytest.approx(flat.std(1, correction=0).tolist())
    assert found.min == flat.amin(1).tolist()


def test_data_scan_names_labels_outside_the_range_and_conflicts(setup_of):
    inputs = torch.zeros(4, 3)
    found = data_scan(setup_of((inputs, torch.tensor([0, 1, 1, 5])), mlp(), num_classes=2)).train
    assert (found.labels_outside, found.first_label_outside) == (1, "train row 3")
    assert found.conflicting == 3


@pytest.mark.parametrize("returned, examples", [("load()", 0), ("(load()[0], None)", 8), ("(*load(), load()[1])", 20)])
def test_data_scan_tells_how_large_the_test_split_is(tmp_path, returned, examples):
    case = make_case(tmp_path, f"def mine():\n    return {returned}\n", {"data.source": "mine.py:mine"})
    assert data_scan(case.setup()).test_examples == examples


def test_data_scan_says_why_a_stochastic_data_set_is_not_compared(setup_of, blobs):
    found = data_scan(setup_of(blobs(), mlp(), data={"stochastic": True}))
    assert "two reads of one example differ" in found.no_duplicates
    assert found.train.duplicates is None


def test_input_scale_is_felt_by_a_plain_model_and_not_behind_batch_norm(setup_of, blobs):
    inputs, targets = blobs()
    plain = input_scale(setup_of((inputs * 100, targets), mlp()))
    normed = input_scale(
        setup_of((inputs * 100, targets), lambda: nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 10)))
    )
    assert plain.spread_ratio > 20
    assert normed.spread_ratio == pytest.approx(1, abs=0.01)


# -- the battery ------------------------------------------------------------------------------------------------


def test_dropout_off_reaches_every_kind():
    model = nn.ModuleList(
        [nn.Dropout(0.5), nn.AlphaDropout(0.1), nn.MultiheadAttention(4, 2, dropout=0.3), nn.LSTM(4, 4, 2, dropout=0.2)]
    )
    dropout_off(model)
    assert [model[0].p, model[1].p, model[2].dropout, model[3].dropout] == [0.0] * 4


def test_battery_runs_every_marked_probe_on_a_sound_model(setup_of, blobs):
    found = init_battery(setup_of(blobs(), mlp(), val=blobs(80, seed=1)), seeds=2, examples=64)
    assert set(found) == set(BATTERY)
    assert len(found) == len(BATTERY) >= 22
    not_here = {
        "near_copies": "near copies are looked for among images only",
        "image_layout": "there are no images of several channels",
        "patch_order": "the inputs are no images",
        "words_heard": "the inputs are no rows of word numbers",
        "target_values": "the targets are no quantities",
        "evaluated_weights": "the weights that are evaluated are the trained ones",
        "weights_shortened": "nothing is done to the weights after an update",
        "dropout_noise": "no rate of dropout is above a half",
        "moves_at_rest": "the step is tuner's own",
        "cosine_scale": "the outputs are no cosines",
        "mixed_shares": "the recipe augments nothing",
        "input_sizes": "images are not augmented",
        "loss_terms": "nothing is added to the loss",
        "fine_tuning": "no batch norm of the model is frozen",
        "targets_in_sight": "there is no target for each word, or the model makes its own loss of them",
        "ends_of_range": "there are no images of several channels: grey ones are black or white by nature",
        "labels_shifted": "rows may follow each other in time, where an input tells the label before by right",
    }
    left_out = {name: answer for name, answer in found.items() if "skipped" in answer}
    assert {name: answer["skipped"] for name, answer in left_out.items()} == not_here
    assert [name for name, answer in left_out.items() if answer.get("applies", True)] == ["labels_shifted"]
    assert len(found["initial_loss"]["init_losses"]) == 2


def test_battery_keeps_the_reason_of_a_probe_that_does_not_apply(setup_of, blobs):
    found = init_battery(setup_of(blobs(), mlp(), optimizer=torch.optim.Rprop))
    assert found["weight_decay"] == {"skipped": "Rprop has no weight_decay to ask for", "applies": False}


def test_a_large_split_is_scanned_in_part_and_says_so(setup_of, blobs, monkeypatch):
    monkeypatch.setattr(scanning, "MOST", 50)
    inputs, targets = blobs(200)
    inputs[-1, 3] = torch.nan
    found = data_scan(setup_of((inputs, targets), mlp(), val=blobs(40, seed=1)))
    assert (found.train.n, found.train.scanned, found.val.scanned) == (200, 50, None)
    assert sum(found.train.class_counts) == 200
    assert found.train.first_non_finite == "train row 199, column 3"
    assert found.train.duplicates is None and found.across is None
    assert found.no_duplicates == "only 50 of 200 train examples were read"


def test_measures_of_the_data_see_the_same_when_inputs_are_read_in_pieces(setup_of, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(200, 3, 12, 12, generator=generator)
    targets = torch.arange(200) % 4
    images[:, 0] += targets[:, None, None] / 4
    setup = setup_of((images, targets), mlp(), val=(images[:80] + 0.1, targets[:80]))
    measures = (labels_fit, splits_compared, single_features, relatives, near_copies, labels_shifted)
    whole = [measure(setup) for measure in measures]
    monkeypatch.setattr(reading, "AT_ONCE", 7 * 3 * 12 * 12)
    assert [measure(setup) for measure in measures] == whole


def test_training_until_something_is_learnt_is_refused_for_a_large_model(setup_of, blobs, monkeypatch):
    judge = lambda model, batches, loss: {"loss": 0.0}  # noqa: E731
    setup = setup_of(blobs(), mlp(), evaluate_hook=judge)
    monkeypatch.setattr(cost, "TRAINING", 1e3)
    with pytest.raises(CannotProbe, match=r"would take up to 300 of the model's own training steps"):
        own_evaluation(setup)


FUSSY = """
from torch import nn


class Net(nn.Linear):
    def forward(self, inputs):
        if {when}:
            raise ValueError("no such input")
        return super().forward(inputs.flatten(1))


def build(input_shape, num_classes):
    return Net(input_shape[0], num_classes)


def evaluate(model, batches, loss):
    model.eval()
    scored = [float(loss(model(inputs), targets)) for inputs, targets in batches]
    return {{"loss": sum(scored) / len(scored), "accuracy": 0.5}}
"""


def test_code_that_raises_on_what_only_a_measurement_gives_it_is_a_check_not_made(tmp_path):
    case = make_case(tmp_path, FUSSY.format(when="not inputs.any()"), {"model": {"name": "mine.py:build"}})
    found = init_battery(case.setup(), seeds=2)
    assert "input_use raised ValueError: no such input" in found["input_use"]["skipped"]
    assert found["input_use"]["raised"] is True
    assert "skipped" not in found["one_step"]


@pytest.mark.parametrize("own", [False, True], ids=["its evaluation", "evaluate of the recipe"])
def test_code_that_raises_in_evaluation_is_the_users_error(tmp_path, own):
    recipe = {"model": {"name": "mine.py:build"}, **({"train.evaluate": "mine.py:evaluate"} if own else {})}
    case = make_case(tmp_path, FUSSY.format(when="not self.training"), recipe)
    with pytest.raises(UserCodeError, match=r"mine\.py:\d+: .* raised ValueError: no such input"):
        init_battery(case.setup(), seeds=2)


def test_a_loss_that_compares_outputs_with_each_other_is_the_same_at_any_targets(setup_of, blobs):
    apart = lambda outputs, targets: -torch.pdist(outputs).mean()  # noqa: E731
    every = lambda outputs, targets: (outputs[:, None] - targets[:, None].float()).square().mean()  # noqa: E731
    assert loss_function(setup_of(blobs(), mlp(), loss=apart)).untouched
    assert loss_function(setup_of(blobs(), mlp())).untouched is False
    assert loss_function(setup_of(blobs(), mlp(), loss=every)).untouched is False
