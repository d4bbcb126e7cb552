"""What a search of a thousand trials takes of the processor, by replay; a measured limit, with room."""

import time

import pytest

from tests.replay import ReplayExecutor
from tests.search.search_cases import SEARCH, bowl, inputs_of, recipe_of
from tuner.core.result import Record
from tuner.stages import coarse

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("generation", [50, 100])
@pytest.mark.parametrize(("sampler", "limit"), [("sobol", 0.005), ("random", 0.005), ("tpe", 0.055)])
def test_a_thousand_trials_are_planned_and_judged_in_milliseconds_each(sampler, limit, generation):
    recipe, inputs, script = recipe_of(search=SEARCH), inputs_of(), bowl(noise=0.01)
    settings = coarse.Settings(trials=1000, generation=generation, sampler=sampler)
    spent, records = 0.0, []
    while True:
        started = time.process_time()
        items = coarse.plan(recipe, inputs, settings, sorted(records, key=lambda record: record.order))
        spent += time.process_time() - started
        if not items:
            break
        records += [Record(item, result) for item, result in zip(items, ReplayExecutor(script).run(items), strict=True)]
    started = time.process_time()
    result = coarse.judge(recipe, inputs, settings, records)
    spent += time.process_time() - started
    assert result.metrics.trials == 1000 and result.metrics.epochs_run < 0.7 * result.metrics.epochs_full
    assert spent / 1000 < limit
