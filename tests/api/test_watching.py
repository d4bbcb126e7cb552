"""`tuner.watch` around a loop, and the judgement of a log."""

import contextlib
import json
import math

import pytest
import torch
from torch import nn

from tuner.api.log_reading import curve_of, read_log
from tuner.api.logs import judged
from tuner.api.watching import watch
from tuner.core.errors import InputError, UsageError


def loop(w, model, optimizer, loss, epochs=4):
    x, y = torch.randn(32, 4), torch.arange(32) % 2
    for epoch in range(epochs):
        for _ in range(10):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        w.epoch(val_loss=1.0 / (1 + epoch), val_accuracy=0.5 + 0.1 * epoch)


@pytest.mark.parametrize("kind", ["module", "function"])
def test_a_loop_is_recorded_and_judged(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss = nn.CrossEntropyLoss() if kind == "module" else nn.functional.cross_entropy
    with watch(model, optimizer, loss, every=10) as w:
        loop(w, model, optimizer, loss if kind == "module" else w.loss)
    assert w.updates == len(w.losses) == 40 and set(w.lrs) == {0.1}
    assert sorted(w.grad_norms) == [0, 10, 20, 30] and set(w.activations[10]) == {"0", "1", "2"}
    rows = w.curve()
    assert [row["epoch"] for row in rows if row["split"] == "val"] == [1, 2, 3, 4]
    assert rows[0]["loss"] == pytest.approx(torch.stack([value for _, value in w.losses[:10]]).mean().item(), rel=1e-5)
    assert w.report is not None and "STEP 6" in str(w.report)


class ReturnsItsLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 2)

    def forward(self, x, targets=None):
        logits = self.net(x)
        return logits, None if targets is None else nn.functional.cross_entropy(logits, targets)


def test_a_model_that_returns_its_loss_is_watched_without_a_loss_to_call():
    torch.manual_seed(0)
    model = ReturnsItsLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said = []
    with watch(model, optimizer, "model") as w:
        for _ in range(40):
            x = torch.randn(32, 4)
            optimizer.zero_grad()
            loss = model(x, (x[:, 0] > 0).long())[1]
            model(x)  # without targets it has no loss
            loss.backward()
            optimizer.step()
            said.append(float(loss))
    assert [float(value) for _, value in w.losses] == said and not model._forward_hooks
    with pytest.raises(UsageError, match="the loss is the model's own"):
        w.loss(x, x)


def test_nothing_of_the_watch_stays_on_the_model():
    model = nn.Linear(4, 2)
    optimizer, loss = torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss()
    with watch(model, optimizer, loss, every=1) as w:
        loop(w, model, optimizer, loss, epochs=1)
    assert not model._forward_hooks and not loss._forward_hooks and not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize(
    ("calls_w_loss", "steps", "raised", "why"),
    [
        (False, True, None, r"there is none: no loss was seen\nCall w\.loss\(outputs, targets\)"),
        (True, False, None, r"there is none: no update of this optimizer was seen\nHand over the optimizer"),
        (True, True, ValueError, r"there is none: an error ended the block\nFix what was raised"),
    ],
)
def test_a_loop_without_a_report_says_why(calls_w_loss, steps, raised, why):
    model = nn.Linear(4, 2)
    optimizer, loss = torch.optim.SGD(model.parameters(), 0.1), nn.functional.cross_entropy
    with contextlib.suppress(ValueError), watch(model, optimizer, loss) as w:
        for _ in range(3):
            (w.loss if calls_w_loss else loss)(model(torch.randn(8, 4)), torch.arange(8) % 2).backward()
            if steps:
                optimizer.step()
        with pytest.raises(UsageError, match="the block has not ended"):
            _ = w.report
        if raised:
            raise raised
    with pytest.raises(UsageError, match=why):
        _ = w.report


def test_a_loop_that_is_interrupted_is_judged_as_far_as_it_came_and_a_notebook_shows_it():
    model, loss = nn.Linear(4, 2), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(KeyboardInterrupt), watch(model, optimizer, loss) as w:
        assert repr(w) == "Watch: 0 updates" and w._repr_html_() is None
        loop(w, model, optimizer, loss, epochs=4)
        raise KeyboardInterrupt
    assert "STEP 6" in repr(w) and "<pre" in w._repr_html_()


def watched(lr=0.1, learns=True, momentum=0.0, updates=150):
    """Watch a loop on noisy batches of a problem that can be learnt, or whose labels are chance."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer, loss = torch.optim.SGD(model.parameters(), lr, momentum=momentum), nn.CrossEntropyLoss()
    with watch(model, optimizer, loss) as w:
        for _ in range(updates):
            x = torch.randn(32, 8)
            y = (x[:, 0] > 0).long() if learns else torch.randint(0, 2, (32,))
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
    return w.report


def codes(report, severity=("error", "warn")):
    return [finding.code for finding in report.findings if finding.severity in severity]


def test_a_sound_loop_is_judged_by_three_steps_without_an_alarm():
    report = watched()
    assert report.passed and not codes(report)
    assert [result.stage for result in report.results] == ["overfit", "lr-sweep", "diagnose"]
    assert "At lr 0.1 the loss falls from" in str(report)


def test_weights_that_do_not_move_are_an_error_of_step_2():
    report = watched(lr=0.0)
    assert "OV203" in codes(report) and "No weight has moved in 150 updates" in str(report)


def test_a_loss_that_never_falls_is_an_error_of_step_3():
    assert "LR302" in codes(watched(lr=1e-3, learns=False))


def test_a_momentum_that_outlasts_the_updates_is_said():
    assert "LR312" in codes(watched(momentum=0.9995, lr=1e-3), ("error", "warn", "note"))


def test_a_loss_that_is_lost_is_an_error_of_step_6_and_leaves_step_3_unjudged():
    report = watched(lr=1e12, momentum=0.9)
    assert "CU650" in codes(report) and "the loss is lost" in str(report)


def rows(epochs=20):
    """Train loss goes to 0; val loss has its minimum at epoch 5 and rises; accuracy stays."""
    return [
        {
            "epoch": e,
            "train_loss": 2.3 * math.exp(-e / 3),
            "val_loss": 0.9 + 0.05 * max(0, e - 5) + math.exp(-e / 2),
            "train_acc": 1 - 0.9 * math.exp(-e / 3),
            "val_acc": 0.7 - 0.6 * math.exp(-e / 2),
            "lr": 1e-3,
        }
        for e in range(1, epochs + 1)
    ]


FORMS = {
    "metrics.csv": lambda r: "\n".join([",".join(r[0]), *(",".join(map(str, row.values())) for row in r)]),
    "lightning.csv": lambda r: "\n".join(
        ["epoch,step,train_loss_epoch,train_acc,val_loss,val_acc"]
        + [f"{x['epoch'] - 1},{x['epoch'] * 10},,,{x['val_loss']},{x['val_acc']}" for x in r]
        + [f"{x['epoch'] - 1},{x['epoch'] * 10},{x['train_loss']},{x['train_acc']},," for x in r]
    ),
    "log.jsonl": lambda r: "\n".join(map(json.dumps, r)),
    "trainer_state.json": lambda r: json.dumps(
        {
            "log_history": [
                row
                for x in r
                for row in (
                    {
                        "epoch": x["epoch"] - 0.5,
                        "loss": x["train_loss"],
                        "learning_rate": 1e-3,
                        "step": x["epoch"] * 10,
                    },
                    {"epoch": float(x["epoch"]), "eval_loss": x["val_loss"], "eval_accuracy": x["val_acc"]},
                )
            ]
        }
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_log_in_any_usual_form_gives_the_same_curve(tmp_path, name):
    (tmp_path / name).write_text(FORMS[name](rows()))
    curve = curve_of(read_log(tmp_path / name))
    val = [row["loss"] for row in curve if row["split"] == "val"]
    assert val == pytest.approx([row["val_loss"] for row in rows()])
    train = [row["loss"] for row in curve if row["split"] == "train"]
    assert train == pytest.approx([row["train_loss"] for row in rows()])


def test_a_log_is_judged_by_the_rules_of_step_6():
    assert "CU611" in [finding.code for finding in judged(curve_of(rows())).findings]


def test_a_log_without_a_loss_is_refused_with_the_names_that_it_has():
    with pytest.raises(UsageError, match=r"no column of a loss \(it has: accuracy, epoch\)"):
        curve_of([{"epoch": 1, "accuracy": 0.5}])


def test_a_file_that_is_no_log_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_log(tmp_path / "none.csv")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError, match="not a log that is known"):
        read_log(tmp_path / "a.json")
