import math
import random

import pytest

from tuner.core.result import Record, TrialResult
from tuner.core.trial import TrialSpec, WorkItem
from tuner.search.band import find_band, measure
from tuner.search.race import Question, Race

RACE = Race(low=1e-4, high=1e-1, floor=1e-7, ceiling=10.0, steps=100, short=30, seeds=3)


def answer_with(drop_of, noise=0.01, seed_spread=0.0):
    """A loss that falls evenly by `drop_of(lr)` over 80 iterations; each seed's batches and weights are its own."""

    def answer(question):
        rng = random.Random(f"{question.seed}")
        scale = 1.0 + rng.gauss(0, seed_spread)
        losses = [2.3 - scale * drop_of(question.lr) * min(1.0, i / 80) + rng.gauss(0, noise) for i in range(100)]
        rows = [{"step": i + 1, "epoch": 1, "split": "train", "loss": loss} for i, loss in enumerate(losses)]
        tables = {"optimizer": {"lr": question.lr}}
        spec = TrialSpec(tables, {}, question.seed, horizon_steps=question.steps)
        whole = Record(WorkItem(spec, 0), TrialResult(f"{question}", None, "completed", rows[: question.steps]))
        return given_up(whole, question)

    return answer


def given_up(whole, question):
    """What becomes of a run that may end after thirty iterations."""
    losses = [row["loss"] for row in whole.result.curve]
    if question.least is None or losses[0] - sum(losses[20:30]) / 10 >= question.least:
        return whole
    return Record(whole.item, TrialResult(whole.result.id, None, "stopped", whole.result.curve[:30]))


def valley(best):
    return lambda lr: 1.5 * math.exp(-((math.log10(lr / best) / 0.7) ** 2))


def run(answer, race=RACE):
    rounds = list(race.rounds(answer))
    return rounds, measure([answer(question) for questions in rounds for question in questions])


def iterations(rounds, answer):
    return sum(len(answer(question).result.curve) for questions in rounds for question in questions)


def test_a_rate_without_a_share_of_the_best_drop_ends_after_thirty_iterations():
    rounds, rates = run(answer_with(valley(1e-2)))
    steps = {rate.lr: (rate.steps, rate.status) for rate in rates}
    assert steps[1e-4] == (30, "stopped") and steps[1e-2] == (100, "completed")
    assert rounds[0] == [Question(lr, 0, 30) for lr in (1e-4, 1e-3, 1e-2, 1e-1)]
    later = [question for questions in rounds[2:] for question in questions if question.seed == 0]
    assert {question.lr for question in later} == {3e-3, 3e-2} and {question.steps for question in later} == {100}
    assert all(question.least == pytest.approx(0.3 * 1.5 * 25 / 80, abs=0.03) for question in later)
    band = find_band(rates)
    assert band.verdicts[1e-4] == "too low: ended after 30 iterations"


def test_no_rate_is_given_up_while_nothing_has_clearly_fallen():
    slow = lambda lr: 0.0 if lr < 1e-2 else 1.0  # noqa: E731

    def late(question):
        record = answer_with(slow)(question)
        rows = [{**row, "loss": 2.3 - (row["step"] > 60) * slow(question.lr)} for row in record.result.curve]
        noisy = [{**row, "loss": row["loss"] + 0.01 * (-1) ** row["step"]} for row in rows]
        return given_up(Record(record.item, TrialResult(record.result.id, None, "completed", noisy)), question)

    rounds, rates = run(late)
    assert {rate.status for rate in rates if rate.lr in (1e-4, 1e-3, 1e-2, 1e-1)} == {"completed"}
    assert len(rounds[1]) == 4


@pytest.mark.parametrize("best", [1e-3, 1e-2, 3e-2, 1e-1])
def test_the_race_takes_four_tenths_of_the_iterations_and_gives_the_same_rate(best):
    answer = answer_with(valley(best), seed_spread=0.05)
    rounds, rates = run(answer)
    every = [Question(rate.lr, seed, 100) for rate in rates for seed in range(3)]
    assert iterations(rounds, answer) < 0.4 * iterations([every], answer)
    assert find_band(rates).lr == pytest.approx(find_band(measure(list(map(answer, every)))).lr, rel=0.01)


def test_a_seed_is_added_where_it_can_change_which_rates_lr_is_the_centre_of():
    shares = {1e-3: 0.3, 3e-3: 0.5, 1e-2: 1.0, 3e-2: 0.81, 1e-1: 0.6, 3e-1: 0.2}
    _, rates = run(answer_with(lambda lr: shares.get(lr, 0.01)))
    seeds = {rate.lr: len(rate.by_seed) for rate in rates}
    assert seeds[3e-2] == 3, "on the border"
    assert seeds[1e-2] == 3, "the best, which it is compared with"
    assert seeds[1e-1] == seeds[3e-3] == 1, "clearly below"


def test_rates_with_fewer_seeds_are_compared_as_on_all():
    drops = {(1e-2, 0): 1.0, (1e-2, 1): 0.5, (1e-3, 0): 0.9}

    def answer(question):
        return answer_with(lambda lr: drops[question.lr, question.seed], noise=0.0)(question)

    slow, fast = measure([answer(Question(lr, seed, 100)) for lr, seed in drops])
    assert slow.drop == pytest.approx(0.9) and fast.drop == pytest.approx(0.75)
    assert slow.level == pytest.approx(0.9 * 0.75), "seed 0 was a good one for both"
    assert find_band([slow, fast]).best is fast


def test_a_race_asks_the_same_again_however_much_is_known():
    answer = answer_with(valley(1e-2), seed_spread=0.2)
    rounds, _ = run(answer)
    flat = [question for questions in rounds for question in questions]
    for known in (3, 5, len(flat) - 1):
        partly = list(RACE.rounds(lambda question, n=known: answer(question) if question in flat[:n] else None))
        assert partly == rounds[: len(partly)]
        assert flat[known] in partly[-1]


def easy_start(answer, by):
    """The same runs, whose first batch is easier than the others by `by`, as one example in ten can make it."""

    def changed(question):
        record = answer(question)
        rows = [{**row, "loss": row["loss"] - by * (row["step"] == 1)} for row in record.result.curve]
        return Record(record.item, TrialResult(record.result.id, None, record.result.status, rows))

    return changed


def test_a_first_batch_that_was_easy_hides_no_fall_of_the_loss():
    answer = easy_start(answer_with(valley(1e-2), noise=0.1), by=0.6)
    questions = [Question(lr, 0, 30) for lr in short_rates()]
    band = find_band(measure(list(map(answer, questions))))
    assert band.lr == pytest.approx(1e-2, rel=0.5)
    assert band.verdicts[1e-7] == "too low: no change beyond noise"


def test_a_loss_that_rises_at_every_rate_has_no_band_from_whatever_start():
    rising = answer_with(lambda lr: -1.0, noise=0.05)
    band = find_band(measure([rising(Question(lr, 0, 30)) for lr in short_rates()]))
    assert band.lr is None


def short_rates():
    return (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
