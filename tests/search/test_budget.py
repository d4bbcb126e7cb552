import math
import random
from dataclasses import replace

import pytest
from pydantic import ValidationError

from tests.replay import replay
from tests.search.search_cases import SEARCH, bowl, inputs_of, recipe_of
from tuner.core.metrics import SplitScan
from tuner.core.result import Record, TrialResult, last_of_each
from tuner.core.trial import TrialSpec, WorkItem
from tuner.search.budget import AIM, Budget, Fit, Outline, clock, fit, parse
from tuner.search.costs import (
    FORWARD,
    HANDED_SECONDS,
    ITEM_SECONDS,
    Costs,
    Timed,
    disk_bytes,
    handed_over,
    of_search,
    of_sweep,
    of_timing,
)
from tuner.search.halving import Climb, Ladder
from tuner.stages import coarse, fine

COSTS = Costs(epoch_seconds=1.0, evaluation_seconds=0.1, item_seconds=0.2, fixed_seconds=3.0, workers=2)


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("20m", 1200, "seconds"),
        ("90s", 90, "seconds"),
        ("1h30m", 5400, "seconds"),
        ("1.5h", 5400, "seconds"),
        ("2H 5 M", 7500, "seconds"),
        ("40trials", 40, "trials"),
        ("1 trial", 1, "trials"),
        ("120epochs", 120, "epochs"),
    ],
)
def test_what_a_budget_may_look_like(text, amount, unit):
    assert parse(text) == Budget(amount, unit)
    assert coarse.Settings(budget=text).budget == text.lower().replace(" ", "")


@pytest.mark.parametrize("text", ["", "20", "m", "20m5h", "-5m", "forty trials", "1.5trials", "20min", "5x"])
def test_anything_else_names_examples(text):
    with pytest.raises(ValueError, match="20m, 90s, 1h30m, 40trials or 120epochs"):
        parse(text)


@pytest.mark.parametrize("text", ["0s", "0h0m", "0trials", "0epochs"])
def test_nothing_is_no_budget(text):
    with pytest.raises(ValueError, match="more than nothing"):
        parse(text)


def test_a_number_is_no_budget():
    with pytest.raises(ValidationError, match="expected text such as 20m"):
        coarse.Settings(budget=20)


@pytest.mark.parametrize("text", ["90s", "2m", "1h30m", "1h30m5s", "45s", "2h"])
def test_a_time_is_written_as_it_is_read(text):
    assert clock(parse(text).amount) == text


@pytest.mark.parametrize("settings", [{}, {"epochs": 5, "trials": 11}, {"rungs": "none"}, {"keep": 0.25, "epochs": 10}])
def test_the_outline_of_coarse_is_what_is_run(settings):
    settings = coarse.Settings(**settings)
    records = replay(coarse, recipe_of(search=SEARCH), inputs_of(), settings, bowl())
    outline = settings.outline()
    lengths = [len(record.rows("val")) for record in last_of_each(records)]
    for rung in outline.rungs():  # the recipe's own configuration is outlined as one of the best, and may not be
        assert sum(length >= rung["until"] for length in lengths) - rung["trials"] in (0, 1)
    result = coarse.judge(recipe_of(search=SEARCH), inputs_of(), settings, records)
    assert 0 <= result.metrics.epochs_run - outline.total_epochs <= settings.epochs
    assert outline.trials == len(last_of_each(records))


@pytest.mark.parametrize("trials", [4, 8, 30])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_outline_of_fine_is_about_what_is_run(trials, seed):
    recipe = recipe_of(search=SEARCH, seed=seed)
    first = replay(coarse, recipe, inputs_of(), coarse.Settings(), bowl(noise=0.005))
    found = coarse.judge(recipe, inputs_of(), coarse.Settings(), first).to_json()
    inputs = replace(inputs_of(coarse=found), trials={"coarse": last_of_each(first)})
    settings = fine.Settings(trials=trials, epochs=12)
    records = replay(fine, recipe, inputs, settings, bowl(noise=0.005))
    ran = sum({record.result.id: len(record.rows("val")) for record in records}.values())
    assert settings.outline().trials == len(last_of_each(records))
    assert settings.outline().total_epochs == pytest.approx(ran, rel=0.15)


def test_seconds_add_up_by_hand():
    outline = Outline(Climb(5, 5, Ladder((1,), 0.5, 2)), epochs=3, repeats=2, evaluated=2)
    # 5 trials of 1 epoch on 2 workers: one has 3, the other 2, and then, without waiting, 2 of the 3 that go on for 2
    # epochs; 2 repeats of 3 epochs wait for everything: 1 turn
    epoch = 1.0 + 2 * 0.1
    expected = 3.0 + 2 * (0.2 + epoch) + 2 * (0.2 + 2 * epoch) + 1 * (0.2 + 3 * epoch)
    assert outline.seconds(COSTS) == pytest.approx(expected)
    assert outline.total_epochs == 5 + 3 * 2 + 2 * 3


def test_what_trains_beside_a_wave_shares_its_turns():
    outline = Outline(Climb(6, 6, Ladder((1,), 0.5, 2), exempt=2), epochs=3)
    # on 2 workers each has one of 3 epochs and two of 1; then 1 goes on for 2 epochs
    assert [(wave.until, wave.trials, wave.opens) for wave in outline.waves()] == [
        (3, 2, True),
        (1, 4, False),
        (3, 1, False),
    ]
    assert outline.rungs() == [{"until": 1, "trials": 6}, {"until": 3, "trials": 3}]
    assert outline.total_epochs == 2 * 3 + 4 * 1 + 1 * 2
    epoch = 1.0 + 0.1
    expected = 3.0 + (0.2 + 3 * epoch) + 2 * (0.2 + epoch) + (0.2 + 2 * epoch)
    assert outline.seconds(COSTS) == pytest.approx(expected)


def test_what_is_known_of_the_first_configurations_is_counted_one_by_one():
    outline = Outline(Climb(3, 3, Ladder((), 0.5, 2), exempt=3), epochs=4)
    # a wide one of 8 epochs' worth beside two narrow ones of 4: both workers end alike, and nothing is left to chance
    costs = replace(COSTS, spread=0.5, relative=(2.0, 1.0, 1.0), item_seconds=0.0)
    assert outline.seconds(costs) == pytest.approx(3.0 + 8 * 1.1)
    assert outline.seconds(replace(costs, relative=())) > outline.seconds(costs)


def test_a_trial_takes_its_epochs_one_after_the_other_however_many_workers_there_are():
    outline = Outline(Climb(6, 6, Ladder((1,), 0.5, 2), exempt=2), epochs=9)
    epoch = 1.0 + 0.1
    # 6 workers: two train 9 epochs, and one of the others goes on after its first
    expected = 3.0 + (0.2 + epoch) + (0.2 + 8 * epoch)
    assert outline.seconds(replace(COSTS, workers=6)) == pytest.approx(expected)


def test_a_generation_of_exempt_trials_alone_comes_before_the_next_one():
    outline = Outline(Climb(4, 2, Ladder((1,), 0.5, 1), exempt=2), epochs=3)
    assert [(wave.until, wave.trials, wave.opens) for wave in outline.waves()][:2] == [(3, 2, True), (1, 2, True)]
    assert outline.rungs()[0] == {"until": 1, "trials": 4}
    epoch = 1.0 + 0.1
    assert outline.seconds(COSTS) >= 3.0 + (0.2 + 3 * epoch) + (0.2 + epoch)


def test_workers_wait_while_a_sampler_that_learns_plans():
    outline = Outline(Climb(10, 4, Ladder((), 0.5, 2)), epochs=1)
    waves = (2 + 2 + 1) * (0.2 + 1.1)  # 4, 4 and 2 trials on 2 workers; what follows the first 4 is learnt: 10 ms each
    assert outline.seconds(COSTS) == pytest.approx(3.0 + waves + 6 * 0.01)


def test_a_generation_waits_for_the_first_rung_of_the_one_before_it():
    outline = Outline(Climb(4, 2, Ladder((1,), 0.5, 1)), epochs=9)
    # 8 workers: after one epoch of two trials come the next two, and one of the first goes on; the last goes on after 2
    epoch = 1.0 + 0.1
    expected = 3.0 + 2 * (0.2 + epoch) + (0.2 + 8 * epoch) + 2 * 0.01
    assert outline.seconds(replace(COSTS, workers=8)) == pytest.approx(expected)


def test_workers_wait_at_the_end_where_trials_differ():
    outline = Outline(Climb(5, 5, Ladder((1,), 0.5, 2)), epochs=3)
    alike, apart = outline.seconds(COSTS), outline.seconds(replace(COSTS, spread=0.5))
    waits = 0.5 / math.sqrt(math.pi) * (0.2 + 2 * 1.1)
    assert apart - alike == pytest.approx(waits)
    rng = random.Random(0)  # the later of two, by drawing
    later = [max(rng.gauss(0, 1), rng.gauss(0, 1)) for _ in range(20000)]
    assert sum(later) / 20000 == pytest.approx(1 / math.sqrt(math.pi), abs=0.02)
    assert outline.seconds(replace(COSTS, spread=0.5, workers=1)) == outline.seconds(replace(COSTS, workers=1))


def chosen(budget, costs=COSTS, stage=coarse, most=10**6, **settings):
    settings = stage.Settings(**settings)

    def outline(trials, epochs):
        return settings.planned(trials, epochs).outline()

    return fit(parse(budget), settings.BOUNDS, settings.epochs, most, outline, costs), outline


@pytest.mark.parametrize("stage", [coarse, fine])
def test_what_fits_fits_and_one_more_would_not(stage):
    for seconds in (*range(60, 400, 17), 3000):
        found, outline = chosen(f"{seconds}s", stage=stage)
        assert found.fits
        assert outline(found.trials, found.epochs).seconds(COSTS) <= AIM * seconds
        assert outline(found.trials + 2, found.epochs).seconds(COSTS) > AIM * seconds


def test_a_larger_budget_never_buys_less():
    rng = random.Random(0)
    for _ in range(50):
        small = rng.uniform(20, 2000)
        spent = [
            outline(found.trials, found.epochs).total_epochs
            for found, outline in (chosen(f"{factor * small:.2f}s") for factor in (1, 2))
        ]
        assert spent[0] <= spent[1]


def test_epochs_give_way_before_trials_and_grow_when_there_are_plenty():
    assert chosen("25s")[0].epochs == 3
    assert chosen("13s")[0].epochs < 3 and chosen("13s")[0].trials >= 4
    plenty = chosen("10m")[0]
    assert plenty.epochs == 5 and plenty.trials >= 64
    assert chosen("10m", epochs=8)[0].epochs == 8  # longer than usual because the user said so


def test_a_small_space_is_searched_longer():
    found, _ = chosen("10m", most=6)
    assert (found.trials, found.epochs) == (6, 5)


def test_too_little_is_told_with_the_least_there_is():
    found, _ = chosen("5s")
    assert (found.fits, found.trials, found.epochs) == (False, 4, 1)
    found, _ = chosen("6trials", stage=fine)
    assert (found.fits, found.trials) == (False, 3)  # four of them are the finalists' repeats


def test_a_budget_of_trials_counts_repeats_and_one_of_epochs_all_epochs():
    assert chosen("40trials", costs=None)[0].trials == 40
    assert chosen("40trials", stage=fine, costs=None)[0].trials == 36
    found, outline = chosen("120epochs", costs=None)
    assert (
        outline(found.trials, found.epochs).total_epochs <= 120 < outline(found.trials + 2, found.epochs).total_epochs
    )
    with pytest.raises(ValueError, match="without measured costs"):
        chosen("20m", costs=None)


def trial(wall, steps=None, epochs=None, until=None, status="completed", precision="fp32", measure=None, name=0):
    spec = TrialSpec({}, {"name": name}, 0, epochs, steps, measure or {}, precision=precision)
    reached = until or epochs
    curve = [{"step": e, "epoch": e, "split": "val", "loss": 1.0} for e in range(1, (reached or 0) + 1)]
    return Record(WorkItem(spec, name, until), TrialResult(spec.id, until, status, curve, wall_seconds=wall))


DATA = {"train": SplitScan(n=1000), "val": SplitScan(n=200)}


def test_costs_from_the_sweep_by_hand():
    records = [trial(1.0 + ITEM_SECONDS, 100, name=i) for i in range(5)]
    records += [trial(50.0, 100, name=9), trial(0.1, 100, status="diverged", name=10)]
    costs = of_sweep(records, DATA, 64, "fp32", 2)
    assert costs.epoch_seconds == pytest.approx(0.01 * 16)  # 1000 examples are 16 batches
    assert costs.evaluation_seconds == pytest.approx(FORWARD * 0.16 * 0.2)
    assert (costs.item_seconds, costs.workers) == (ITEM_SECONDS + HANDED_SECONDS, 2)


def test_the_settled_precision_is_what_counts_and_setting_up_is_not_a_step():
    records = [trial(0.2 + 0.02 * steps, steps, name=steps) for steps in (100, 30, 100, 30)]
    records += [trial(0.2 + 0.01 * 100, 100, name=2, precision="bf16")]
    records += [trial(9.0, measure={"hardware": {}}, name=3)]  # counts what a forward pass computes; no trial does that
    costs = of_sweep(records, DATA, 100, "bf16", 1)
    assert costs.epoch_seconds == pytest.approx(0.01 * 10)
    assert costs.item_seconds == pytest.approx(0.2 + HANDED_SECONDS)
    assert of_sweep([], DATA, 64, "fp32", 1) is None
    assert of_sweep(records, {}, 64, "fp32", 1) is None


def test_costs_from_coarse_are_those_of_the_trials_that_went_furthest():
    item = ITEM_SECONDS
    records = [trial(item + 1.04, epochs=3, until=1, status="stopped", name=1)]
    records += [trial(item + 2 * 1.04, epochs=3, name=1)]
    records += [trial(item + 9.0, epochs=3, until=1, status="stopped", name=2)]
    costs = of_search(records, [], {"train": SplitScan(n=350), "val": SplitScan(n=40)}, 3, 2)
    assert costs.epoch_seconds == pytest.approx(1.0)
    assert costs.evaluation_seconds == pytest.approx(0.04)
    assert of_search([], [], DATA, 3, 2) is None


def test_items_of_other_sizes_say_nothing_of_what_an_item_takes():
    """A narrow configuration trained three epochs at once, wide ones an epoch each: as a search with rungs does."""

    def ran(number, width, span, until, seconds):
        spec = TrialSpec({}, {"model.width": width, "optimizer.lr": 0.1 * number}, 0, 3)
        curve = [{"step": e, "epoch": e, "split": "val", "loss": 1.0} for e in range(1, (until or 3) + 1)]
        status = "completed" if until is None else "stopped"
        return Record(
            WorkItem(spec, number, until), TrialResult(spec.id, until, status, curve, wall_seconds=0.1 + seconds * span)
        )

    records = [ran(0, 8, 3, None, 0.5), ran(1, 8, 1, 1, 0.5)]
    records += [ran(n, 16, 1, until, 1.0) for n in (2, 3) for until in (1, 2, None)]
    first = [records[2].result.id, records[0].result.id]
    costs = of_search(records, [], {"train": SplitScan(n=1), "val": SplitScan(n=0)}, 3, 2, first)
    assert costs.item_seconds == pytest.approx(0.1 + HANDED_SECONDS)
    assert costs.epoch_seconds == pytest.approx(0.75) and costs.relative == pytest.approx((1 / 0.75, 0.5 / 0.75))


def test_what_lies_between_two_items_is_read_from_when_they_began():
    spans = [(0.0, 1.0), (0.0, 1.5), (1.04, 1.0), (1.56, 2.0), (2.1, 1.0), (9.0, 1.0)]  # the last one waited for others
    records = []
    for number, (start, seconds) in enumerate(spans):
        record = trial(seconds, 100, name=number)
        records.append(replace(record, result=replace(record.result, started_at=1e9 + start)))
    assert handed_over(records) == pytest.approx(0.06)  # 0.04, 0.06, 0.06, and 5.44
    assert handed_over(records[:2]) == handed_over([trial(1.0, 100)]) == HANDED_SECONDS


def test_the_disk_holds_the_weights_of_every_trial():
    assert disk_bytes(10, 20, 1_000_000) == pytest.approx(10 * 5 * 4e6, rel=0.01)


def test_no_bounds_are_out_of_order():
    for stage in (coarse, fine):
        bounds = stage.Settings.BOUNDS
        assert 1 <= bounds.least <= bounds.enough <= bounds.plenty and 1 <= bounds.shortest <= bounds.longest


def test_the_timing_counts_each_configurations_own_batches_and_what_is_no_step():
    def timed(number, batch_size, steps, seconds):
        tables = {"train": {"batch_size": batch_size}}
        spec = TrialSpec(tables, {"train.batch_size": batch_size}, 0, horizon_steps=steps)
        return Record(WorkItem(spec, number), TrialResult(spec.id, None, "completed", wall_seconds=seconds))

    data = {"train": SplitScan(n=1000), "val": SplitScan(n=500)}
    pairs = ((0, 100, 0.2), (1, 50, 0.1))  # 10 and 20 steps an epoch
    records = [timed(number, size, steps, steps * s + 0.04) for number, size, s in pairs for steps in (1, 10)]
    costs = of_timing(Timed(records), data, workers=3)
    assert costs.epoch_seconds == pytest.approx(2.0)
    assert costs.evaluation_seconds == pytest.approx(FORWARD * 2.0 * 0.5)
    assert costs.item_seconds == pytest.approx(0.04 + HANDED_SECONDS)
    assert (costs.workers, costs.source) == (3, "timing")
    cold = [replace(r, result=replace(r.result, wall_seconds=r.result.wall_seconds + 0.5)) for r in records[:1]]
    assert of_timing(Timed(cold + records[1:]), data, 3).item_seconds == pytest.approx(0.04 + HANDED_SECONDS)
    assert of_timing(Timed(), data, workers=1) is None
    coming = [{"train.batch_size": size, "optimizer.lr": 0.1 * i} for i, size in enumerate((100, 50, 50, 100, 25, 100))]
    of_a_size = of_timing(Timed([*records, timed(9, 50, 1, 0.14), timed(9, 50, 10, 2.04)], coming), data, workers=3)
    # of 100: 2 s an epoch; of 50: 2 s and 4 s, so 3; nobody knows of 25, nor of what comes after it
    assert of_a_size.epoch_seconds == pytest.approx(2.5)
    assert of_a_size.relative == pytest.approx((2 / 2.5, 3 / 2.5, 3 / 2.5, 2 / 2.5))
    assert of_timing(Timed(records[:1]), data, workers=1) is None  # its longer run failed


def test_what_an_item_takes_is_read_from_items_of_different_length():
    def ran(name, item):
        spans = ((1, 1, "stopped"), (2, 1, "stopped"), (None, 3, "completed"))
        return [trial(item + span * 1.04, epochs=5, until=u, status=status, name=name) for u, span, status in spans]

    sweep = [
        trial(9.0, measure={"hardware": {}}, name=9),
        *(trial(3.0 + steps, steps, name=steps) for steps in (3, 10)),
    ]
    found = of_search([*ran(1, 0.2), *ran(2, 0.2)], sweep, {"train": SplitScan(n=350), "val": SplitScan(n=40)}, 5, 2)
    assert found.epoch_seconds == pytest.approx(1.0)
    assert found.item_seconds == pytest.approx(0.2 + HANDED_SECONDS)
    one_length = of_search(
        [trial(2.08, epochs=2, name=1)], sweep, {"train": SplitScan(n=350), "val": SplitScan(n=40)}, 2, 2
    )
    assert one_length.item_seconds == pytest.approx(1.04 + HANDED_SECONDS)  # no more than half of an item


def test_fine_trains_fewer_configurations_before_it_trains_them_shorter():
    settings = fine.Settings(seeds=1)

    def fitted(seconds, bounds):
        of = Budget(seconds, "seconds")
        return fit(of, bounds, settings.epochs, 100, lambda *sizes: settings.planned(*sizes).outline(), COSTS)

    least = settings.planned(3, settings.epochs).outline().seconds(COSTS) / AIM
    assert fitted(least + 1, fine.Settings.BOUNDS) == Fit(4, 15)  # of three, a worker would wait for the third
    assert fitted(least - 1, fine.Settings.BOUNDS).epochs < 15
    assert fitted(least + 1, replace(fine.Settings.BOUNDS, whole_length=False)).epochs < 15
