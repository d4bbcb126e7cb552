import math
import random
from dataclasses import replace

import pytest
from pydantic import ValidationError

from tests.replay import descent, failure, replay
from tests.results import inputs_of as result_inputs
from tuner.core.result import TrialResult
from tuner.recipe.model import Recipe
from tuner.stages import Inputs, lr_sweep

SETTINGS = lr_sweep.Settings()


def recipe_of(**tables):
    return Recipe.model_validate({"name": "r", "data": {"source": "digits"}, "model": {"name": "mlp"}, **tables})


def rate(item):
    return item.spec.tables["optimizer"]["lr"]


def falling(drop, noise=0.02, seed=0):
    """A hundred losses that end lower by `drop`, with a scatter from batch to batch but a fixed first one."""
    rng = random.Random(seed)
    losses = [2.3 - drop * min(1.0, step / 80) + rng.gauss(0, noise) for step in range(100)]
    return descent([2.3, *losses[1:]])


def valley(best, width=1.0, diverges_above=math.inf):
    """The drop is largest at `best` and half of it `width * 0.83` decades away; above a limit it diverges."""

    def script(item):
        lr = rate(item)
        if lr > diverges_above:
            return descent([2.3, 2.5, math.nan])
        return falling(1.5 * math.exp(-((math.log10(lr / best) / width) ** 2)), seed=item.spec.seed)

    return script


def as_long_as_asked(script):
    """A trial that is to be given up after thirty iterations has the first thirty of a hundred."""

    def cut(item):
        answer, steps, rule = script(item), item.spec.horizon_steps, item.spec.give_up
        if steps is None or answer.status != "completed":
            return answer
        losses = [row["loss"] for row in answer.curve]
        if rule and losses[0] - sum(losses[20:30]) / 10 < rule["drop"]:
            return replace(answer, curve=answer.curve[:30], status="stopped")
        return answer if len(losses) <= steps else replace(answer, curve=answer.curve[:steps])

    return cut


def sweep(script, recipe=None, settings=SETTINGS, shuffle=None):
    recipe = recipe or recipe_of()
    records = replay(lr_sweep, recipe, Inputs(), settings, as_long_as_asked(script), shuffle)
    return lr_sweep.judge(recipe, Inputs(), settings, records), records


def rates_of(result):
    return [entry.lr for entry in result.metrics.rates]


def codes(result):
    return [finding.code for finding in result.findings]


@pytest.mark.parametrize(("calls", "steps"), [(8, 240), (1, 30), (None, 30)])
def test_a_step_that_gathers_gradients_gets_as_many_updates(calls, steps):
    inputs = result_inputs({"check-init": {"metrics": {"calls_per_update": calls}}})
    items = lr_sweep.plan(recipe_of(), inputs, SETTINGS, [])
    assert {item.spec.horizon_steps for item in items} == {steps}


def test_the_first_generation_is_the_decades_with_one_seed_for_thirty_iterations():
    recipe = recipe_of(seed=5, schedule={"name": "cosine", "warmup_epochs": 1}, optimizer={"momentum": 0.9})
    items = lr_sweep.plan(recipe, Inputs(), SETTINGS, [])
    assert [(rate(item), item.spec.seed) for item in items] == [(lr, 5) for lr in (1e-4, 1e-3, 1e-2, 1e-1)]
    assert [item.number for item in items] == [0, 1, 2, 3]
    spec = items[0].spec
    assert (spec.horizon_steps, spec.horizon_epochs, spec.precision) == (30, None, "fp32")
    assert spec.tables["schedule"] == {"name": "constant", "every": "step", "args": {}}
    assert spec.tables["optimizer"]["momentum"] == 0.9
    assert spec.overrides == {"optimizer.lr": 1e-4} and spec.give_up is None


def test_half_decades_come_second_inside_the_band_and_next_to_it():
    result, records = sweep(valley(1e-2))
    assert rates_of(result) == [1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
    swept = [record for record in records if not record.item.spec.measure]
    assert [record.number for record in swept] == list(range(len(swept)))
    assert (result.choice["lr"], result.choice["lr_low"], result.choice["lr_high"]) == (1e-2, 3e-3, 3e-2)
    assert result.verdict == "pass" and codes(result) == []
    assert "between 0.003 and 0.03; use 0.01" in result.headline


def test_lr_is_the_centre_of_80_percent_and_the_ends_have_half():
    drops = {1e-4: 0.1, 1e-3: 0.5, 3e-3: 0.6, 1e-2: 0.85, 3e-2: 1.0, 1e-1: 0.82, 3e-1: 0.49, 3e-4: 0.3}
    result, _ = sweep(lambda item: falling(drops[rate(item)], noise=0.0))
    by_rate = {entry.lr: entry.drop for entry in result.metrics.rates}
    assert by_rate[1e-2] == pytest.approx(0.85)
    assert result.choice["lr"] == pytest.approx(math.sqrt(1e-2 * 1e-1), rel=0.02)
    assert (result.choice["lr_low"], result.choice["lr_high"]) == (1e-3, 1e-1)


def test_the_range_is_extended_upwards_while_the_best_is_the_highest():
    result, _ = sweep(valley(1.0), recipe_of(optimizer={"lr": 0.5}))
    assert max(rates_of(result)) == 10.0
    assert result.choice["lr"] == 1.0 and codes(result) == []


def test_the_range_is_extended_downwards_while_the_best_is_the_lowest():
    result, _ = sweep(valley(1e-6), recipe_of(optimizer={"lr": 1e-6}))
    assert min(rates_of(result)) == 1e-7
    assert result.choice["lr"] == 1e-6 and codes(result) == []


def test_a_rate_that_diverged_is_never_passed():
    result, _ = sweep(valley(1e-1, diverges_above=0.5))
    statuses = {entry.lr: entry.status for entry in result.metrics.rates}
    assert statuses == {1e-4: "stopped", 1e-3: "stopped", 1e-2: "completed", 3e-2: "completed", 1e-1: "completed",
                        3e-1: "completed", 1.0: "diverged"}  # fmt: skip
    assert result.metrics.rates[-1].diverged_at == 3
    assert result.metrics.rates[-1].verdict == "diverges"


def test_a_rate_whose_second_seed_diverges_is_not_used():
    def script(item):
        if rate(item) == 1e-2 and item.spec.seed == 1:
            return descent([2.3, math.inf])
        return valley(1e-2)(item)

    result, _ = sweep(script)
    assert {entry.lr: entry.status for entry in result.metrics.rates}[1e-2] == "diverged"
    assert result.choice["lr"] != 1e-2


def test_a_band_at_the_bound_of_the_range_is_reported():
    result, _ = sweep(valley(100.0, width=2.0), recipe_of(optimizer={"lr": 5.0}))
    assert max(rates_of(result)) == 10.0
    assert codes(result) == ["LR301"] and result.verdict == "warn"


def test_all_diverging_rates_are_an_error_after_going_down_to_the_floor():
    result, _ = sweep(lambda item: descent([2.3, math.nan]))
    assert min(rates_of(result)) == 1e-7 and max(rates_of(result)) == 1e-1
    assert codes(result) == ["LR303"] and result.verdict == "fail"
    assert set(result.choice) == {"precision", "precision_reason"}


def test_nothing_falling_is_an_error_after_the_whole_range_was_tried():
    result, _ = sweep(lambda item: falling(1e-4 * rate(item), noise=0.05, seed=item.spec.seed))
    assert (min(rates_of(result)), max(rates_of(result))) == (1e-7, 10.0)
    assert codes(result) == ["LR302"] and result.verdict == "fail" and "lr" not in result.choice


def test_rising_losses_send_the_sweep_down():
    script = lambda item: falling(-1.0) if rate(item) > 1e-5 else valley(1e-6)(item)  # noqa: E731
    result, _ = sweep(script, recipe_of(optimizer={"lr": 1e-6}))
    assert result.choice["lr"] == pytest.approx(1e-6)


def test_failed_rates_do_not_extend_the_range():
    result, _ = sweep(lambda item: failure("oom", "out of memory\nmore"))
    assert rates_of(result) == [1e-4, 1e-3, 1e-2, 1e-1]
    assert codes(result) == ["LR307"]
    assert result.findings[0].title.endswith("rates failed: out of memory")


@pytest.mark.parametrize("shuffle", [1, 2])
def test_the_order_of_results_does_not_matter(shuffle):
    assert sweep(valley(1.0), shuffle=shuffle)[0] == sweep(valley(1.0))[0]


def test_an_interrupted_generation_asks_for_what_is_missing():
    recipe = recipe_of()
    _, records = sweep(valley(1.0), recipe)
    for kept in (records[:5], records[::2], records[:-2], records[3:]):
        asked = lr_sweep.plan(recipe, Inputs(), SETTINGS, kept)
        done = {record.item.key for record in kept}
        whole = {record.item.key: record.number for record in records}
        assert asked and all(whole[item.key] == item.number and item.key not in done for item in asked)
    assert lr_sweep.plan(recipe, Inputs(), SETTINGS, records) == []


@pytest.mark.parametrize(
    ("train", "precision"), [({}, "fp32"), ({"precision": "bf16"}, "bf16"), ({"step": "my.py:step"}, "fp32")]
)
def test_precision_is_settled_here(train, precision):
    result, _ = sweep(valley(1e-2), recipe_of(train=train))
    assert result.choice["precision"] == precision


def with_hardware(answer, short="bf16", multiply_adds=10**9, **facts):
    """Answer the question what the hardware can do, and leave the rest to the script."""

    def script(item):
        if "hardware" not in item.spec.measure:
            return answer(item)
        found = {"short": short, "multiply_adds": multiply_adds, "grouped": False, **facts}
        return TrialResult("", None, "completed", evidence={"hardware": found})

    return script


def worse_in_bf16(by):
    """A valley around 1e-2 whose loss falls by less in bf16."""

    def script(item):
        lost = by if item.spec.precision == "bf16" else 0.0
        return falling(1.5 * math.exp(-(math.log10(rate(item) / 1e-2) ** 2)) - lost, seed=item.spec.seed)

    return script


def test_auto_is_the_short_format_where_its_curves_agree():
    result, records = sweep(with_hardware(worse_in_bf16(by=0.0)))
    tried = [record.item for record in records if record.item.spec.precision == "bf16"]
    assert [(rate(item), item.spec.seed, item.number) for item in tried] == [
        (1e-2, seed, 14 + seed) for seed in range(3)
    ]
    assert result.choice["precision"] == "bf16"
    assert result.metrics.precision["parity"]["agree"] and result.metrics.precision["candidate"] == "bf16"
    assert codes(result) == []


def test_the_parity_check_changes_nothing_about_the_rates():
    with_check, _ = sweep(with_hardware(worse_in_bf16(by=0.5)))
    without, _ = sweep(worse_in_bf16(by=0.0))
    for key in ("lr", "lr_low", "lr_high"):
        assert with_check.choice[key] == without.choice[key]
    assert with_check.metrics.rates == without.metrics.rates


def test_auto_is_fp32_where_the_curves_differ_and_a_note_says_so():
    result, _ = sweep(with_hardware(worse_in_bf16(by=0.3)))
    assert result.choice["precision"] == "fp32"
    assert "differ by more than the noise" in result.choice["precision_reason"]
    assert codes(result) == ["LR308"] and result.verdict == "pass"


def test_auto_is_fp32_where_the_short_format_diverges():
    def script(item):
        return descent([2.3, math.nan]) if item.spec.precision == "bf16" else valley(1e-2)(item)

    result, _ = sweep(with_hardware(script))
    assert result.choice["precision"] == "fp32" and codes(result) == ["LR308"]
    assert result.choice["precision_reason"] == "a trial in bf16 at a rate of 0.01 is diverged, in fp32 none"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"short": None}, "no fast 16-bit"),
        ({"multiply_adds": 10**6}, "too few for bf16 to pay"),
        ({"grouped": True}, "grouped convolutions"),
    ],
)
def test_nothing_is_tried_where_the_facts_speak_against_it(facts, reason):
    result, records = sweep(with_hardware(valley(1e-2), **facts))
    assert {record.item.spec.precision for record in records} == {"fp32"}
    assert result.choice["precision"] == "fp32" and reason in result.choice["precision_reason"]
    assert codes(result) == []


def test_the_precision_rests_on_no_measured_time():
    slow = with_hardware(lambda item: replace(worse_in_bf16(0.0)(item), wall_seconds=99.0))
    quick = with_hardware(lambda item: replace(worse_in_bf16(0.0)(item), wall_seconds=0.1))
    one, other = sweep(slow)[0], sweep(quick)[0]
    assert one.choice == other.choice
    assert one.metrics.precision.pop("wall_seconds") != other.metrics.precision.pop("wall_seconds")
    assert one.metrics == other.metrics


@pytest.mark.parametrize("kept", [12, 13, 14, 15, 16])
def test_a_sweep_interrupted_in_the_parity_check_goes_on_with_what_is_missing(kept):
    script = with_hardware(worse_in_bf16(0.0))
    _, records = sweep(script)
    asked = lr_sweep.plan(recipe_of(), Inputs(), SETTINGS, records[:kept])
    assert [item.number for item in asked][:1] == [kept]
    assert {item.key for item in asked} <= {record.item.key for record in records[kept:]}


@pytest.mark.parametrize("train", [{"precision": "fp32"}, {"precision": "bf16"}, {"step": "my.py:step"}])
def test_nothing_is_asked_where_the_recipe_settles_the_precision(train):
    _, records = sweep(with_hardware(valley(1e-2)), recipe_of(train=train))
    assert not any(record.item.spec.measure for record in records)
    assert {record.item.spec.precision for record in records} == {"fp32"}


def test_settings_refuse_a_range_that_is_none():
    with pytest.raises(ValidationError, match="low must be less than high"):
        lr_sweep.Settings(low=1.0, high=0.1)
