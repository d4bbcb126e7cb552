"""A finished or running search in Python: its trials as pandas tables, and as Optuna studies for optuna-dashboard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import stages
from tuner.core.errors import EnvironmentProblem, InputError, UsageError, did_you_mean
from tuner.core.manifest import read_manifest, verify_outputs
from tuner.core.result import Record, last_of_each
from tuner.core.stage_ref import StageRef
from tuner.core.store import RunDir, StageDir, read_recipe, read_stored_result, trial_rows
from tuner.recipe.space import Choices, Range, Space

if TYPE_CHECKING:
    import pandas as pd

    from tuner.execute.in_process import Winner

STATES = {"completed": "COMPLETE", "stopped": "PRUNED", "diverged": "FAIL", "failed": "FAIL"}


class Run:
    """The folder of one run, read only: `tuner.open_run("runs/digits").trials()`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._dir = RunDir(path)
        if not self.stages:
            raise InputError(f"{path}: no run of tuner lies there", "Give the folder of a run, such as runs/digits.")

    def __repr__(self) -> str:
        """Return how each stage ended: what a notebook shows where a run is the last line of a cell."""
        ends = [f"  {label:<12} {self._end_of(label)}" for label in self.stages]
        return "\n".join([f"Run({str(self.path)!r})", *ends])

    def _end_of(self, label: str) -> str:
        path = self._dir.stage(label).result_path
        try:
            result = read_stored_result(path) if path.exists() else None
        except InputError as error:
            return error.message
        return "not finished" if result is None else f"{result['verdict'].upper():<5} {result['headline']}"

    @property
    def stages(self) -> list[str]:
        """The folders of the stages that have been begun, in their order: check-init, ..., fine, fine-2, ..."""
        refs = [StageRef.parse(path.parent.name) for path in self.path.glob("*/recipe.json")]
        known = [ref for ref in refs if ref.stage in stages.NAMES]
        return [ref.label for ref in sorted(known, key=lambda ref: (ref.round, stages.NAMES.index(ref.stage)))]

    def result(self, stage: str) -> dict[str, Any]:
        """Return the content of a stage's `result.json`: verdict, findings, choice, metrics."""
        return read_stored_result(self._folder(stage).result_path)

    def records(self, stage: str) -> list[Record]:
        """Return a stage's finished trials as they are stored, one per rung."""
        return self._folder(stage).records()

    def trials(self, stage: str | None = None) -> pd.DataFrame:
        """Return one row per trial: stage, number, seed, parameters, status, score, last and best metrics, cost.

        Without a stage: of coarse and fine, in all rounds.
        """
        return _table(
            {"stage": label, **row}
            for label in self._searches(stage)
            for row in trial_rows(self._folder(label).records())
        )

    def curves(self, stage: str | None = None) -> pd.DataFrame:
        """Return the curves of a stage's trials: stage, number, trial, step, epoch, split and the metrics."""
        return _table(
            {"stage": label, "number": record.number, "trial": record.result.id, **row}
            for label in self._searches(stage)
            for record in last_of_each(self._folder(label).records())
            for row in record.result.curve
        )

    def load_model(self) -> Winner:
        """Return the winner as a torch Module that takes inputs as the data source gives them.

        `class_names` and `columns` are its attributes. It is in eval mode, on the CPU.

        Raises:
            InputError: the run has no winner yet, or its weights were changed.
        """
        from tuner.workflow.winner import load_winner

        return load_winner(self.path)

    def to_optuna(self, storage: str, replace: bool = False) -> list[str]:
        """Write coarse's and fine's trials as Optuna studies, one per stage and round; return their names.

        `storage`: a URL such as `sqlite:///study.db`, or the path of an SQLite file. `replace`: delete studies of the
        same names first; without it they are an error.
        """
        import optuna

        labels = [label for label in self._searches(None) if self.records(label)]
        if not labels:
            raise InputError(f"{self.path} has no trials of coarse or fine", "Run a search first: tuner coarse RECIPE")
        opened = _open_storage(storage)
        name = self._recipe(labels[0])["name"]
        studies = {label: f"{name}/{label}" for label in labels}
        known = {summary.study_name for summary in optuna.get_all_study_summaries(opened)} & set(studies.values())
        if known and not replace:
            raise UsageError(
                f"{storage} has the study {', '.join(sorted(known))} already",
                "Write it again with --replace (in Python replace=True), or give another storage.",
            )
        for study_name in sorted(known):
            optuna.delete_study(study_name=study_name, storage=opened)
        for label, study_name in studies.items():
            study = optuna.create_study(study_name=study_name, storage=opened, direction="maximize")
            study.set_user_attr("run", str(self.path))
            study.add_trials(_frozen(self.records(label), self._space(label)))
        return list(studies.values())

    def _searches(self, stage: str | None) -> list[str]:
        searches = stages.named("searches")
        return [stage] if stage is not None else [it for it in self.stages if StageRef.parse(it).stage in searches]

    def _folder(self, stage: str) -> StageDir:
        if stage not in self.stages:
            raise UsageError(
                f"{self.path} has no stage {stage!r}{did_you_mean(stage, self.stages)}",
                f"It has {', '.join(self.stages)}.",
            )
        folder = self._dir.stage(stage)
        if (manifest := read_manifest(folder)) is not None:
            verify_outputs(folder, manifest, ("trials.jsonl", "result.json"))
        return folder

    def _recipe(self, stage: str) -> dict[str, Any]:
        return read_recipe(self._folder(stage).path / "recipe.json")

    def _space(self, stage: str) -> Mapping[str, Any]:
        """Return the space that a stage searched, as far as it is known."""
        folder = self._folder(stage)
        return stages.read_result(folder.result_path).metrics.space if folder.result_path.exists() else {}


def folder_of(path: str | Path) -> Path:
    """Return the folder of a run, which may be given by its name in runs/."""
    found = Path(path)
    return found if found.is_dir() or not (Path("runs") / found).is_dir() else Path("runs") / found


def _table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a table with every column that a row has, in the order of their first rows."""
    import pandas as pd

    rows = list(rows)
    return pd.DataFrame(rows, columns=list(dict.fromkeys(key for row in rows for key in row)) or ["stage"])


def _open_storage(storage: str) -> Any:
    """Open an Optuna storage; a plain path is an SQLite file."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = storage if "://" in storage else f"sqlite:///{storage}"
    try:
        return optuna.storages.get_storage(url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise EnvironmentProblem(
            f"cannot open the storage {storage}: {first}", "Give a URL such as sqlite:///study.db in a writable folder."
        ) from error


def _frozen(records: Sequence[Record], space: Mapping[str, Any]) -> list[Any]:
    """Return records as Optuna's trials, one each; what diverged or failed is FAIL, what a rung stopped PRUNED."""
    import optuna

    trials = last_of_each(records)
    rows = {row["trial"]: row for row in trial_rows(records)}
    distributions = _distributions(trials, space)
    found = []
    for record in trials:
        params = {key: _plain(value) for key, value in record.params.items()}
        state = STATES[record.result.status] if record.result.score is not None else "FAIL"
        row = rows[record.result.id]
        shown = ("number", "trial", "seed", "status", "best_epoch", "epochs", "wall_seconds", "error")
        found.append(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState[state],
                params=params,
                distributions={key: distributions[key] for key in params},
                value=record.result.score if state == "COMPLETE" else None,
                intermediate_values=record.scores(),
                user_attrs={key: row[key] for key in shown if row.get(key) is not None},
            )
        )
    return found


def _distributions(records: Iterable[Record], space: Mapping[str, Any]) -> dict[str, Any]:
    """Return one distribution per key, that of the space, wide enough for every value that was tried.

    What was carried from an earlier stage may lie outside the range that this one searched.
    """
    import optuna

    known = Space.from_json(space)
    values: dict[str, list[Any]] = {}
    for record in records:
        for key, value in record.params.items():
            values.setdefault(key, []).append(_plain(value))
    found: dict[str, Any] = {}
    for key, tried in values.items():
        domain = known[key].domain if key in known else None
        if isinstance(domain, Range):
            low, high = min(domain.low, *tried), max(domain.high, *tried)
            found[key] = (
                optuna.distributions.IntDistribution(int(low), int(high), log=domain.log)
                if domain.integer
                else optuna.distributions.FloatDistribution(float(low), float(high), log=domain.log)
            )
        elif domain is None and all(isinstance(value, float) for value in tried):
            low, high = min(tried), max(tried)
            found[key] = optuna.distributions.FloatDistribution(low, high, log=low > 0 and high > 100 * low)
        else:
            options = [_plain(option) for option in domain.options] if isinstance(domain, Choices) else []
            found[key] = optuna.distributions.CategoricalDistribution(tuple(dict.fromkeys([*options, *tried])))
    return found


def _plain(value: Any) -> Any:
    """Return a value as Optuna stores it: lists and tables as JSON text."""
    return json.dumps(value) if isinstance(value, (list, tuple, Mapping)) else value
