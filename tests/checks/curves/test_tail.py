import pytest

from tests.checks.asking import ask, built
from tuner.checks.baseline import ranks_apart
from tuner.checks.cards import Missing
from tuner.checks.curves.rules import level as evaluation
from tuner.checks.curves.rules import tail as curves

FLAT = [0.96, 0.962] * 8
SOUND_VAL = [0.5, 0.8, 0.9, 0.93, 0.95, *[0.96, 0.962] * 5]
SOUND_LOSS = [1.5, 0.8, 0.5, 0.35, 0.3, *[0.25, 0.252] * 5]


def evidence(**changes):
    found = {
        "epochs": 15, "best_epoch": 11, "best_epochs": [11, 9], "val_n": 2000, "majority_share": 0.1, "target": 0.95,
        "val_accuracies": SOUND_VAL, "val_losses": SOUND_LOSS, "train_accuracies": [v + 0.01 for v in SOUND_VAL],
        "train_losses": [v * 0.9 for v in SOUND_LOSS], "running_losses": SOUND_LOSS,
        "lrs": [0.1 * (1 - i / 16) for i in range(15)], "gap": 0.01, "gap_interval": [-0.002, 0.022],
        "train_accuracy": 0.972, "val_accuracy": 0.962, "train_loss": 0.22, "val_loss": 0.25,
    }  # fmt: skip
    return {**found, **changes}


def asked(check, facts):
    counted = {key: facts.pop(key) for key in ("recall", "class_counts", "areas") if key in facts}
    runs = {"runs": facts.pop("confirmed")} if "confirmed" in facts else {}
    return ask(check, built("curves", **facts), built("confirming", **runs), built("val_predictions", **counted))


ALL = [curves.train_longer, curves.trained_too_long, curves.overfitting, curves.gap_only, curves.underfitting,
       curves.plateau, curves.unstable, curves.over_confident, curves.loss_above_start, curves.schedule_ended,
       curves.evaluation_lags,
       evaluation.at_baseline, evaluation.val_too_small, evaluation.val_above_train]  # fmt: skip


@pytest.mark.parametrize("check", ALL)
def test_a_sound_run_is_silent(check):
    assert asked(check, evidence()) is None


@pytest.mark.parametrize("check", ALL)
def test_missing_curves_are_missing(check):
    with pytest.raises(Missing):
        asked(check, {**dict.fromkeys(evidence()), "epochs": 3, "target": 0.95})


def keys(finding):
    return [proposal.key for proposal in finding.proposals]


RISING = [0.4 + 0.03 * i for i in range(15)]


@pytest.mark.parametrize(
    ("changes", "fires"),
    [
        ({"best_epoch": 15}, True),
        ({"best_epoch": 12}, True),
        ({"best_epoch": 11}, False),  # three quarters of 15 is 11.25
        ({"best_epoch": 15, "lrs": [0.1] * 14 + [0.001]}, False),  # the schedule has ended it
        ({"best_epoch": 15, "val_n": 30}, False),  # 12 points are within the sampling of 30 examples
        ({"best_epoch": 15, "val_accuracies": FLAT[:15]}, False),
        ({"best_epoch": 15, "val_n": None}, True),
    ],
)
def test_train_longer(changes, fires):
    finding = asked(curves.train_longer, evidence(**{"val_accuracies": RISING, **changes}))
    assert (finding is not None) == fires
    if finding:
        assert [(p.key, p.operation) for p in finding.proposals] == [("stages.fine.epochs", "lengthen")]


@pytest.mark.parametrize(
    ("best", "last", "fires"), [([1, 1, 1], 0.1, True), ([1, 2], 0.1, False), ([1], 9.0, False), ([], 0.1, False)]
)
def test_trained_too_long_needs_every_seed_and_no_collapse(best, last, fires):
    finding = asked(curves.trained_too_long, evidence(best_epochs=best, running_losses=[*SOUND_LOSS[:14], last]))
    assert (finding is not None) == fires
    assert finding is None or keys(finding) == ["stages.fine.epochs"]


def test_trained_too_long_needs_ten_epochs():
    with pytest.raises(Missing, match="fewer than 10 epochs"):
        asked(curves.trained_too_long, evidence(epochs=9))


LOSS_UP = [1.0, 0.6, 0.4, 0.35, 0.30, *[0.32 + 0.03 * i for i in range(10)]]
TRAIN_DOWN = [1.0 * 0.7**i for i in range(15)]
ACC_DOWN = [0.6, 0.8, 0.9, 0.93, 0.95, *[0.948 - 0.004 * i for i in range(10)]]
ACC_UP = [0.6, 0.8, 0.9, 0.93, 0.95, *[0.95 + 0.001 * i for i in range(10)]]


@pytest.mark.parametrize(
    ("val_losses", "train_losses", "accuracies", "code"),
    [
        (LOSS_UP, TRAIN_DOWN, ACC_DOWN, "CU603"),
        (LOSS_UP, TRAIN_DOWN, ACC_UP, "CU611"),
        (LOSS_UP, LOSS_UP, ACC_DOWN, None),  # train rises too: no overfitting
        ([*SOUND_LOSS[:13], 0.9, 0.9], TRAIN_DOWN, ACC_DOWN, None),  # two evaluations above are not three
        ([*LOSS_UP[:14], 0.29], TRAIN_DOWN, ACC_DOWN, None),  # back at the minimum
    ],
)
def test_a_rising_val_loss_is_told_apart_by_accuracy(val_losses, train_losses, accuracies, code):
    seen = evidence(val_losses=val_losses, train_losses=train_losses, val_accuracies=accuracies)
    found = [
        finding.code for finding in (asked(curves.overfitting, seen), asked(curves.over_confident, seen)) if finding
    ]
    assert found == ([code] if code else [])


@pytest.mark.parametrize(("low", "fires"), [(0.05, False), (0.051, True)])
def test_a_gap_alone_is_room_to_regularise(low, fires):
    finding = asked(curves.gap_only, evidence(gap=0.08, gap_interval=[low, 0.11]))
    assert (finding is not None) == fires
    if finding:
        assert finding.severity == "note"
        assert keys(finding) == ["regularisation"]


@pytest.mark.parametrize(
    ("changes", "fires"),
    [
        ({}, True),
        ({"train_accuracy": 0.95}, False),
        ({"gap_interval": [0.03, 0.06]}, True),
        ({"gap_interval": [0.031, 0.06]}, False),
        ({"gap": 0.031, "gap_interval": None}, False),  # the size of val is not known
        ({"train_losses": [1.0 - 0.05 * i for i in range(15)]}, False),  # still falling
        ({"train_losses": [1.0 - 0.005 * i for i in range(15)]}, True),  # it creeps, and val has been best for long
        ({"train_losses": [1.0 - 0.005 * i for i in range(15)], "best_epoch": 15}, False),  # longer may do
        ({"majority_share": 0.75}, False),  # at the baseline: another finding
    ],
)
def test_underfitting(changes, fires):
    low = {"train_accuracy": 0.75, "val_accuracy": 0.74, "gap": 0.01, **changes}
    finding = asked(curves.underfitting, evidence(**low))
    assert (finding is not None) == fires
    assert finding is None or keys(finding) == ["regularisation"]


@pytest.mark.parametrize(
    ("changes", "fires"),
    [
        ({}, True),
        ({"lrs": [0.1 / (i + 1) for i in range(15)]}, False),
        ({"train_accuracy": 0.995}, False),
        ({"running_losses": [1.0 - 0.05 * i for i in range(15)]}, False),
        ({"val_accuracies": RISING}, False),
    ],
)
def test_plateau(changes, fires):
    finding = asked(curves.plateau, evidence(**{"lrs": [0.1] * 15, **changes}))
    assert (finding is not None) == fires
    assert finding is None or [(p.key, p.operation) for p in finding.proposals] == [("schedule.name", "anneal")]


@pytest.mark.parametrize(("jump", "fires"), [(0.004, False), (0.06, True)])
def test_unstable_beyond_sampling_noise(jump, fires):
    # binomial noise at 0.9 of 2000 examples is 0.0067
    accuracy = [0.9 + jump * (i % 2) for i in range(15)]
    assert (asked(curves.unstable, evidence(val_accuracies=accuracy)) is not None) == fires


@pytest.mark.parametrize(
    ("losses", "fires"),
    [([1.0, 0.8, 1.1, *[0.5] * 12], True), ([1.0, 0.8, 1.0, *[0.5] * 12], False), ([1.0, 1.2, *[0.5] * 13], False)],
)
def test_loss_above_its_start(losses, fires):
    assert (asked(curves.loss_above_start, evidence(running_losses=losses)) is not None) == fires


def test_a_warm_up_may_raise_the_loss_until_the_peak_of_the_rate():
    losses = [1.0, 0.9, 1.1, 1.2, *[0.5] * 11]
    rates = [0.01, 0.02, 0.05, 0.1, *[0.05] * 11]
    assert asked(curves.loss_above_start, evidence(running_losses=losses, lrs=rates)) is None


@pytest.mark.parametrize(("accuracy", "n", "severity"), [(0.5, 2000, "error"), (0.5, 100, "warn"), (0.7, 2000, None)])
def test_at_baseline(accuracy, n, severity):
    finding = asked(evaluation.at_baseline, evidence(val_accuracy=accuracy, val_n=n, majority_share=0.5))
    assert (finding.severity if finding else None) == severity


@pytest.mark.parametrize(
    ("recall", "monitor", "said"),
    [
        ([0.9, 0.8], "val_accuracy", ("class-imbalance", "warn")),
        ([0.9, 0.8], "val_metric", ("class-imbalance", "note")),
        ([0.99, 0.02], "val_accuracy", ("at-baseline", "error")),  # recalls without the input add up to 1
        ([0.5, 0.55], "val_accuracy", ("at-baseline", "error")),  # and so they may here: 200 rare examples
        ([0.9, None], "val_accuracy", ("at-baseline", "error")),
        (None, "val_accuracy", ("at-baseline", "error")),
    ],
)
def test_rare_classes_that_are_told_apart_are_no_baseline(recall, monitor, said):
    facts = evidence(val_accuracy=0.89, majority_share=0.9, recall=recall, class_counts=[1800, 200], monitor=monitor)
    both = [asked(rule, dict(facts)) for rule in (evaluation.at_baseline, evaluation.majority_hides_it)]
    assert [(finding.cause, finding.severity) for finding in both if finding] == [said]


@pytest.mark.parametrize(
    ("areas", "share", "said"),
    [
        ([0.59, 0.59], 0.9, "class-imbalance"),  # 4.2 standard errors of 0.0215
        ([0.56, 0.56], 0.9, "at-baseline"),  # 2.8
        ([0.41, 0.41], 0.9, "at-baseline"),  # the wrong way round
        ([None, None], 0.9, "at-baseline"),
        (None, 0.9, "at-baseline"),
        ([0.59, 0.59], 0.55, "at-baseline"),  # even classes: a model that is learning answers more than one
    ],
)
def test_ranks_tell_classes_apart_where_the_largest_wins_every_answer(areas, share, said):
    facts = evidence(val_accuracy=share, majority_share=share, recall=[1.0, 0.0], areas=areas, class_counts=[1800, 200])
    rules = (evaluation.at_baseline, evaluation.metric_contradicts, evaluation.majority_hides_it)
    (finding,) = [finding for finding in (asked(rule, dict(facts)) for rule in rules) if finding]
    assert finding.cause == said
    assert ("ranked before the others in 59% of all pairs" in finding.title) == (said == "class-imbalance")


def test_many_classes_get_a_stricter_limit_for_their_ranks():
    few, many = ([0.61] + [0.5] * n for n in (1, 40))
    assert ranks_apart(few, [100, 900]) and not ranks_apart(many, [100, 900 - 39 * 20] + [20] * 39)


@pytest.mark.parametrize(("high", "fires"), [(-0.021, True), (-0.02, False)])
def test_val_above_train(high, fires):
    finding = asked(evaluation.val_above_train, evidence(gap=-0.05, gap_interval=[-0.08, high]))
    assert (finding is not None) == fires
    assert finding is None or (finding.severity, finding.cause) == ("warn", "train-val-shift")


@pytest.mark.parametrize(("n", "fires"), [(200, True), (2000, False)])
def test_val_too_small(n, fires):
    assert (asked(evaluation.val_too_small, evidence(val_n=n)) is not None) == fires


FALLING = [1.6 - 0.05 * i for i in range(15)]
ENDED = {"train_losses": FALLING, "train_accuracy": 0.70, "val_accuracy": 0.69, "lrs": [0.1] * 14 + [0.001]}


@pytest.mark.parametrize(
    ("changes", "fires"),
    [
        ({}, True),
        ({"gap_interval": [0.03, 0.06]}, True),
        ({"gap_interval": [0.031, 0.06]}, False),
        ({"train_accuracy": 0.95}, False),  # the target is reached
        ({"lrs": [0.1] * 15}, False),  # the rate has not ended it
        ({"train_losses": [0.5, 0.502] * 7 + [0.5]}, False),  # nothing moves any more
        ({"train_losses": FALLING[::-1]}, False),
        ({"val_accuracy": 0.1}, False),  # at the baseline: another matter
    ],
)
def test_schedule_ended(changes, fires):
    finding = asked(curves.schedule_ended, evidence(**{**ENDED, **changes}))
    assert (finding is not None) == fires
    if finding is not None:
        assert (finding.cause, finding.severity) == ("train-longer", "note")
        assert keys(finding) == ["stages.fine.epochs"]
        assert finding.proposals[0].operation == "lengthen"


def test_a_rise_that_slows_down_is_not_unstable():
    # the val accuracy of a sound run on CIFAR-10 with 8,000 val examples, under a cosine schedule
    accuracy = [0.4143, 0.453, 0.5178, 0.5843, 0.5844, 0.615, 0.6254, 0.6374]
    accuracy += [0.6671, 0.6666, 0.6907, 0.7037, 0.7051, 0.7066, 0.7101]
    assert asked(curves.unstable, evidence(val_accuracies=accuracy, val_n=8000)) is None


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        (curves.train_longer, {"val_accuracies": RISING, "best_epoch": 15}),
        (curves.overfitting, {"val_losses": LOSS_UP, "train_losses": TRAIN_DOWN, "val_accuracies": ACC_DOWN}),
        (curves.over_confident, {"val_losses": LOSS_UP, "train_losses": TRAIN_DOWN, "val_accuracies": ACC_UP}),
        (curves.gap_only, {"gap": 0.5, "gap_interval": [0.4, 0.6]}),
        (curves.unstable, {"val_accuracies": [0.9 + 0.06 * (i % 2) for i in range(15)]}),
    ],
)
def test_at_the_baseline_no_curve_gives_advice(check, changes):
    assert asked(check, evidence(**changes)) is not None
    assert asked(check, evidence(**changes, val_accuracy=0.1)) is None


@pytest.mark.parametrize(
    ("changes", "fires"),
    [
        ({4: 7.6}, True),
        ({4: 7.4}, False),  # 5 times 1.5, the first running loss
        ({1: 90.0}, False),  # the averages of a few first steps
    ],
)
def test_a_loss_in_eval_mode_that_jumps_above_the_start_is_unstable(changes, fires):
    losses = [changes.get(epoch, loss) for epoch, loss in enumerate(evidence()["train_losses"])]
    finding = asked(curves.evaluation_lags, evidence(train_losses=losses))
    assert (finding is not None) == fires
    assert not fires or (finding.severity, finding.evidence["epoch"]) == ("note", 5)


def test_a_loss_that_rose_on_the_batches_too_is_another_finding():
    running = [1.5, 0.8, 0.5, 9.0, 9.0, *[0.25] * 10]
    losses = [1.4, 0.8, 0.5, 9.0, 9.0, *[0.25] * 10]
    assert asked(curves.evaluation_lags, evidence(train_losses=losses, running_losses=running)) is None
