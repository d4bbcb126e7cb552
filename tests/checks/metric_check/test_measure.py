"""The user's evaluate and metric against planned outputs: planted mistakes, and unusual ones that are right."""

import pytest
import torch
from torch import nn

from tests.checks.asking import judged
from tuner.checks.metric_check.evidence import MetricCheck
from tuner.checks.metric_check.measure import metric_check, plan
from tuner.checks.tools.frame import CannotProbe


def linear():
    return nn.Linear(20, 10)


def findings(setup):
    found, _, _ = judged("check-init", {"metric_check": metric_check(setup)})
    return {finding.code: finding for finding in found if finding.cause == "metric-wrong"}


def evaluated(setup_of, blobs, evaluate, model=linear, **more):
    return findings(setup_of(blobs(), model, val=blobs(150, seed=1), evaluate_hook=evaluate, **more))


def looped(hits, total=len):
    """Return an evaluate that sums `hits(outputs, targets)` over the batches and divides by `total(targets)`."""

    def evaluate(model, batches, loss):
        right = examples = 0.0
        with torch.no_grad():
            for inputs, targets in batches:
                right += float(hits(model(inputs), targets))
                examples += total(targets)
        return {"loss": 1.0, "accuracy": right / examples}

    return evaluate


def plain(outputs, targets):
    return (outputs.argmax(1) == targets).sum()


def views(model, batches, loss):
    right = examples = 0
    for inputs, targets in batches:
        outputs = (model(inputs).softmax(1) + model(inputs.flip(1)).softmax(1)) / 2
        right, examples = right + int((outputs.argmax(1) == targets).sum()), examples + len(targets)
    return {"loss": 1.0, "accuracy": right / examples}


def in_small_batches(model, batches, loss):
    pairs = [(row, target) for inputs, targets in batches for row, target in zip(inputs, targets, strict=True)]
    return {"loss": 1.0, "accuracy": sum(int(model(row[None]).argmax()) == int(t) for row, t in pairs) / len(pairs)}


def balanced(model, batches, loss):
    outputs, targets = (torch.cat(p) for p in zip(*((model(x), y) for x, y in batches), strict=True))
    hits = (outputs.argmax(1) == targets).double()
    return {"loss": 1.0, "accuracy": float(torch.stack([hits[targets == c].mean() for c in targets.unique()]).mean())}


@pytest.mark.parametrize("evaluate", [looped(plain), views, in_small_batches, balanced])
def test_evaluation_that_is_right_gives_at_most_a_note(setup_of, blobs, evaluate):
    assert {f.severity for f in evaluated(setup_of, blobs, evaluate).values()} <= {"note"}


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid(), nn.Tanh()])
def test_squashed_outputs_do_not_hide_the_right_answers(setup_of, blobs, end):
    assert not evaluated(setup_of, blobs, looped(plain), lambda: nn.Sequential(nn.Linear(20, 10), end))


class Smoothed:
    """Keeps a running mean over its calls."""

    def __init__(self):
        self.value = None

    def __call__(self, model, batches, loss):
        new = looped(plain)(model, batches, loss)["accuracy"]
        self.value = new if self.value is None else 0.9 * self.value + 0.1 * new
        return {"loss": 1.0, "accuracy": self.value}


def mean_of_batches(model, batches, loss):
    shares = [float((model(x).argmax(1) == y).float().mean()) for x, y in batches]
    return {"loss": 1.0, "accuracy": sum(shares) / len(shares)}


def only_three(model, batches, loss):
    return looped(plain)(model, list(batches)[:3], loss)


WRONG = {
    "argmax over the examples": (looped(lambda o, t: (o.argmax(0)[t] == t).sum()), "error", "axis"),
    "a size from elsewhere": (looped(plain, lambda t: 20 * len(t)), "error", "divides by"),
    "top five": (looped(lambda o, t: (o.topk(5, 1).indices == t[:, None]).any(1).sum()), "warn", "the 5 largest"),
    "percent": (looped(lambda o, t: 100 * plain(o, t)), "warn", "percent"),
    "a count": (looped(plain, lambda t: 1 / 38.0), "error", "accuracy"),
    "a threshold on logits": (looped(lambda o, t: (o.gather(1, t[:, None]) > 0.5).sum()), "error", "axis"),
    "remembers": (Smoothed(), "error", "state"),
    "a few batches only": (only_three, "warn", "of the examples"),
    "wrong answers": (looped(lambda o, t: (o.argmax(1) != t).sum()), "error", "wrong answers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_accuracy_is_found(setup_of, blobs, case):
    evaluate, severity, words = WRONG[case]
    finding = evaluated(setup_of, blobs, evaluate)["IN120"]
    assert finding.severity == severity
    assert words in finding.title


@pytest.mark.parametrize(("examples", "severity"), [(1500, "warn"), (2048, "note"), (128, "note")])
def test_mean_over_batches_misleads_only_where_the_last_is_smaller(setup_of, blobs, examples, severity):
    setup = setup_of(blobs(), linear, val=blobs(examples, seed=1), evaluate_hook=mean_of_batches)
    finding = findings(setup)["IN120"]
    assert finding.severity == severity
    assert "mean over batches" in finding.title
    assert ("last one has fewer" in finding.title) == (severity == "warn")


def test_size_of_val_that_is_written_into_the_code_is_right(setup_of, blobs):
    def evaluate(model, batches, loss):
        return {"loss": 1.0, "accuracy": sum(float(plain(model(x), y)) for x, y in batches) / 600}

    assert not findings(setup_of(blobs(), linear, val=blobs(600, seed=1), evaluate_hook=evaluate))


def test_evaluation_of_another_model_cannot_be_probed(setup_of, blobs):
    own = linear()
    setup = setup_of(
        blobs(),
        linear,
        val=blobs(60, seed=1),
        evaluate_hook=lambda model, batches, loss: looped(plain)(own, batches, loss),
    )
    with pytest.raises(CannotProbe, match="does not call the model"):
        metric_check(setup)


def test_tuners_own_evaluation_is_not_asked(setup_of, blobs):
    assert metric_check(setup_of(blobs(), linear)) == MetricCheck([])
    assert not findings(setup_of(blobs(), linear))


def recall(outputs, targets):
    hits = (outputs.argmax(1) == targets).double()
    return float(torch.stack([hits[targets == c].mean() for c in targets.unique()]).mean())


def named(metric):
    """Return a metric that is called by the names of its arguments, as a hook is."""
    return lambda outputs, targets: metric(outputs, targets)


SEEN = []


def remembering(outputs, targets):
    SEEN.append(float((outputs.argmax(1) == targets).float().mean()))
    return sum(SEEN) / len(SEEN)


METRICS = {
    "accuracy": (lambda outputs, targets: (outputs.argmax(1) == targets).float().mean(), None, None),
    "mean recall": (recall, None, None),
    "cross-entropy, not monitored": (nn.functional.cross_entropy, None, None),
    "constant": (lambda outputs, targets: 0.5, "warn", "does not change"),
    "over the examples": (
        lambda o, t: (o.argmax(0) == torch.arange(o.shape[1])).float().mean(),
        "warn",
        "does not change",
    ),
    "the first half": (lambda o, t: (o.argmax(1) == t)[: len(t) // 2].float().mean(), "error", "order"),
    "remembers": (remembering, "error", "state"),
}


@pytest.mark.parametrize("case", METRICS)
def test_metric(setup_of, blobs, case):
    metric, severity, words = METRICS[case]
    metric = named(metric)
    found = findings(setup_of(blobs(), linear, val=blobs(150, seed=1), metric_hook=metric))
    assert [f.severity for f in found.values()] == ([severity] if severity else [])
    assert words is None or words in found["IN121"].title


@pytest.mark.parametrize(("kept", "words"), [(150, "does not change"), (109, "when the targets change places")])
def test_a_metric_that_pairs_every_output_with_all_targets(setup_of, blobs, kept, words):
    inputs, targets = blobs(150, seed=1)
    val = tuple(part[targets.argsort()][-kept:] for part in (inputs, targets))  # of 109, one class has a few alone
    metric = named(lambda o, t: (o.argmax(1, keepdim=True) == t).float().mean())
    assert words in findings(setup_of(blobs(), linear, val=val, metric_hook=metric))["IN121"].title


@pytest.mark.parametrize(("mode", "fires"), [("max", True), ("min", False)])
def test_monitored_metric_must_get_better_with_the_outputs(setup_of, blobs, mode, fires):
    setup = setup_of(blobs(), linear, val=blobs(150, seed=1), metric_hook=named(nn.functional.cross_entropy))
    setup.spec.tables["train"] |= {"monitor": "val_metric", "monitor_mode": mode}
    assert ("IN121" in findings(setup)) is fires


def test_metric_named_accuracy_must_be_it(setup_of, blobs):
    metric = lambda o, t: (o.topk(5, 1).indices == t[:, None]).any(1).float().mean()  # noqa: E731
    setup = setup_of(blobs(), linear, val=blobs(150, seed=1), metric_hook=named(metric))
    setup.spec.tables["train"]["metric"] = "mine.py:accuracy"
    assert "top 5" in findings(setup)["IN121"].title


def test_plan_has_the_share_that_was_asked_for():
    targets = torch.arange(100) % 7
    made = plan(targets, 7, 0.8, 30, seed=0)
    hits = made.outputs.argmax(1) == targets
    assert float(hits.double().mean()) == made.expected["accuracy"] == 0.8
    assert not hits[90:].any()
    assert made.expected["mean over batches"] == pytest.approx(
        sum(float(p.double().mean()) for p in hits.split(30)) / 4
    )
