"""Teachers in the step; averages over views and snapshots, and stacking, after training."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.train.training_cases import NORM_NET, make_case, without_clock
from tuner.core.errors import InputError
from tuner.recipe.model import Recipe
from tuner.train.after import stacked, views_of
from tuner.train.loop import fit

WIDER = {"name": "mlp", "width": 9, "depth": 1}


def saved(folder, seed=7, **model):
    teacher = make_case(folder, overrides={f"model.{key}": value for key, value in model.items()}).setup().model(seed)
    torch.save(teacher.state_dict(), folder / "teacher.pt")
    return teacher.eval()


def plain(setup, penalty, after=lambda model, step: None):
    model = setup.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step, (inputs, targets) in enumerate(setup.data.epoch(0, 1, 8), 1):
        optimizer.zero_grad()
        outputs = model(inputs)
        (F.cross_entropy(outputs, targets) + penalty(outputs, inputs)).backward()
        optimizer.step()
        after(model, step)
    return model


def assert_same(training, model):
    for name, item in model.state_dict().items():
        torch.testing.assert_close(training.model.state_dict()[name], item, rtol=1e-4, atol=1e-5)


def test_distillation_adds_the_divergence_from_the_softened_answers(tmp_path):
    teacher = saved(tmp_path, width=20)
    table = {
        "distill": "teacher.pt",
        "temperature": 3.0,
        "weight": 0.7,
        "model": {"name": "mlp", "width": 20, "depth": 1},
    }
    setup = make_case(tmp_path, overrides={"teacher": table}).setup(horizon_epochs=1)

    def penalty(outputs, inputs):
        with torch.no_grad():
            wanted = (teacher(inputs) / 3).softmax(1)
        return 0.7 * 9 * F.kl_div((outputs / 3).log_softmax(1), wanted, reduction="batchmean")

    assert_same(fit(setup), plain(setup, penalty))


def test_a_mean_teacher_is_an_average_of_the_model_whose_answers_are_to_be_met(tmp_path):
    setup = make_case(tmp_path, overrides={"teacher": {"mean_teacher": 0.9, "weight": 2.0}}).setup(horizon_epochs=1)
    teacher = setup.model()

    def penalty(outputs, inputs):
        with torch.no_grad():
            wanted = teacher(inputs).softmax(1)
        return 2.0 * F.mse_loss(outputs.softmax(1), wanted, reduction="sum") / len(inputs)

    @torch.no_grad()
    def after(model, step):
        decay = min(0.9, step / (step + 1))
        for mine, item in zip(teacher.parameters(), model.parameters(), strict=True):
            mine.copy_(decay * mine + (1 - decay) * item)

    assert_same(fit(setup), plain(setup, penalty, after))


def test_pseudo_labels_count_only_where_the_teacher_is_sure(tmp_path):
    saved(tmp_path)
    np.savez(tmp_path / "more.npz", inputs=np.random.default_rng(0).normal(size=(30, 4)).astype("float32"))
    table = {"distill": "teacher.pt", "pseudo_labels": 0.999999, "unlabelled": "more.npz"}
    unsure = fit(make_case(tmp_path, overrides={"teacher": table}).setup(horizon_epochs=1))
    alone = fit(make_case(tmp_path, overrides={"teacher": {"distill": "teacher.pt"}}).setup(horizon_epochs=1))
    assert_same(unsure, alone.model)
    sure = fit(make_case(tmp_path, overrides={"teacher": {**table, "pseudo_labels": 0.34}}).setup(horizon_epochs=1))
    assert not torch.allclose(sure.model.state_dict()["1.weight"], alone.model.state_dict()["1.weight"], atol=1e-3)


def test_a_model_that_is_its_own_teacher_keeps_frozen_batch_norm_in_eval_mode(tmp_path):
    np.savez(tmp_path / "more.npz", inputs=np.random.default_rng(0).normal(size=(30, 4)).astype("float32"))
    overrides = {
        "model": {"name": "mine.py:net"},
        "finetune": {"way": "head"},
        "teacher": {"pseudo_labels": 0.4, "unlabelled": "more.npz"},
    }
    setup = make_case(tmp_path, NORM_NET, overrides).setup(horizon_epochs=1)
    found, before = fit(setup).model.state_dict(), setup.model().state_dict()
    changed = {name for name in found if not torch.equal(found[name], before[name])}
    assert changed == {"3.weight", "3.bias"}


SINGLE = """
def two():
    return [(x, y.clamp(max=1)) for x, y in load()]
def net():
    return nn.Linear(4, 1)
def pixels():
    x = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return (x, (x[:, 0] > 0).long()), (x, (x[:, 0] > 0).long())
def per_pixel(num_classes):
    return nn.Conv2d(1, num_classes, 1)
"""


def test_a_single_score_is_averaged_as_no_and_yes(tmp_path):
    overrides = {
        "data.source": "mine.py:two",
        "model": {"name": "mine.py:net"},
        "loss.name": "bce",
        "train.snapshots": 2,
        "after": {"ensemble": "snapshots"},
    }
    result = make_case(tmp_path, SINGLE, overrides).run(horizon_epochs=2)
    best = max(row["accuracy"] for row in result.curve if row["split"] == "val")
    assert result.evidence["after"]["single"] == pytest.approx(best)
    assert best != pytest.approx(7 / 20)  # that of class 0: the softmax of one score is always 1


def test_views_of_an_image_whose_pixels_have_a_class_each_are_not_averaged(tmp_path):
    overrides = {"data.source": "mine.py:pixels", "model": {"name": "mine.py:per_pixel"}, "after": {"tta": ["hflip"]}}
    result = make_case(tmp_path, SINGLE, overrides).run(horizon_epochs=1)
    assert "after" not in result.evidence
    assert result.evidence["skipped"]["after"] == "answers are averaged where every example has one class"


def test_one_and_four_epochs_are_five_with_every_teacher_and_snapshots(tmp_path):
    overrides = {
        "teacher": {"distill": "teacher.pt", "mean_teacher": 0.9, "pseudo_labels": 0.4, "unlabelled": "more.npz"},
        "train.snapshots": 2,
        "after": {"ensemble": "snapshots", "stacking": True},
    }
    results = []
    for name in "ab":
        saved(tmp_path / name)
        np.savez(tmp_path / name / "more.npz", inputs=np.zeros((9, 4), dtype="float32"))
        case = make_case(tmp_path / name, overrides=overrides)
        if name == "b":
            assert case.run(until=2, horizon_epochs=4).status == "stopped"
        results.append(without_clock(case.run(horizon_epochs=4)))
    assert results[0] == results[1] and "stacked" in results[0]["evidence"]["after"]


@pytest.mark.parametrize(
    ("table", "kind", "message"),
    [
        ({"distill": "no.pt"}, InputError, "no such file: .*no.pt"),
        ({"distill": "teacher.pt", "model": WIDER}, InputError, "teacher.distill: .*nothing fits the model"),
        ({"pseudo_labels": 0.9, "unlabelled": "no.npz"}, InputError, "teacher.unlabelled: no such file"),
    ],
)
def test_a_teacher_that_is_not_there_or_does_not_fit_is_refused(tmp_path, table, kind, message):
    saved(tmp_path)
    with pytest.raises(kind, match=message):
        fit(make_case(tmp_path, overrides={"teacher": table}).setup(horizon_epochs=1))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"teacher": {"pseudo_labels": 0.9}}, "pseudo_labels and unlabelled go together"),
        ({"teacher": {}}, "a teacher needs one of distill"),
        ({"after": {"ensemble": "snapshots"}}, "snapshots are kept by train.snapshots"),
        ({"after": {"tta": ["mirror"]}}, "unknown view 'mirror'"),
        ({"after": {"stacking": True}}, "stacking needs several models"),
    ],
)
def test_tables_that_do_not_go_together_are_refused(tables, message):
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate({"name": "a", "data": {"source": "digits"}, "model": {"name": "mlp"}, **tables})


def test_views_are_torchs_own_flips_and_turns():
    x = torch.randn(2, 3, 4, 4)
    views = views_of(x, ["hflip", "vflip", "quarter_turns"])
    assert len(views) == 6 and torch.equal(views[0], x) and torch.equal(views[1], x.flip(-1))
    assert torch.equal(views[4], x.flip(-1).flip(-2))  # half a turn


def test_after_training_val_is_answered_by_views_and_by_snapshots(tmp_path):
    overrides = {
        "data.source": "mine.py:images", "model": {"name": "convnet", "width": 4, "depth": 1}, "train.snapshots": 3,
        "schedule": {"name": "cosine_restarts", "period_epochs": 1},
        "after": {"tta": ["hflip"], "ensemble": "snapshots"},
    }  # fmt: skip
    case = make_case(tmp_path, overrides=overrides)
    result = case.run(horizon_epochs=3)
    found = result.evidence["after"]
    assert found["single"] == pytest.approx(result.score)
    training = fit(case.setup(horizon_epochs=3))
    inputs, targets = case.setup().data.normalise(case.setup().data.inputs("val")), case.setup().data.targets("val")
    shares = []
    for weights in training.snapshots:
        training.model.load_state_dict(weights)
        with torch.no_grad():
            net = training.model.eval()
            shares.append((net(inputs).softmax(1) + net(inputs.flip(3)).softmax(1)) / 2)
    assert len(shares) == 3
    accuracy = [float((p.argmax(1) == targets).double().mean()) for p in (*shares, sum(shares))]
    assert [*found["members"], found["ensemble"]] == pytest.approx(accuracy)


def test_stacking_learns_which_member_to_trust_out_of_fold():
    labels = torch.arange(200) % 4
    generator = torch.Generator().manual_seed(0)
    right = F.one_hot(labels, 4).float() * 2 + torch.rand(200, 4, generator=generator)
    noise = 5 * torch.randn(200, 4, generator=generator)
    mean = ((right.softmax(1) + noise.softmax(1)) / 2).argmax(1)
    assert stacked([right.softmax(1), noise.softmax(1)], labels) > float((mean == labels).double().mean()) + 0.1
    assert stacked([noise.softmax(1)], labels) < 0.45  # nothing is learnt from noise: the folds are kept apart
