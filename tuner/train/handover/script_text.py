"""The text of a training script: its head, and the template with the recipe's components in its places."""

from __future__ import annotations

import platform
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuner.core.result import is_less_better
from tuner.tasks.base import monitored_score
from tuner.train.data import mixed_order
from tuner.train.evaluate import as_float, better
from tuner.train.evaluate import evaluate as whole_evaluate
from tuner.train.finetune import freeze
from tuner.train.handover import script_parts, template
from tuner.train.handover.names import Names, hook_text, import_text, literal
from tuner.train.handover.script_data import load_text, normalise_text, own_val
from tuner.train.loop import evaluation_batch
from tuner.train.scheduling import watches_val
from tuner.train.setup import Setup
from tuner.train.state import Tape
from tuner.train.step import How, default_step, needs_closure


@dataclass(frozen=True)
class Facts:
    """What the script says of the run: its name, the trial, its best epoch and score."""

    run: str
    trial: str
    best_epoch: int | None
    score: float | None


@dataclass(frozen=True)
class Forms:
    """Which form of the step and of the evaluation the script needs.

    The short ones are for one class per example, scored by accuracy, and one batch per update; the whole ones are
    tuner's own, copied with all that they use.
    """

    short_step: bool
    short_evaluation: bool
    points: str | None
    outputs: Any

    @property
    def scorer(self) -> bool:
        return not (self.short_step and self.short_evaluation)


def forms_of(setup: Setup, names: Names) -> Forms:
    """Decide on the forms; for that a model is built and asked for the outputs of two examples."""
    model = setup.model().eval()
    inputs, _ = next(iter(setup.data.batches("train", 2, indices=torch.arange(min(2, setup.data.size("train"))))))
    with torch.no_grad(), setup.autocast():
        outputs = as_float(model(inputs))
    rows = isinstance(outputs, torch.Tensor) and outputs.ndim == 2 and outputs.shape[1] > 1
    plain = setup.data.one_class_each and setup.tables["loss"].get("weight") is None
    short = plain and rows and setup.scorer(setup.loss()).names == ("accuracy",)
    points = script_parts.points_text(setup, names)
    closure = needs_closure(setup.optimizer(setup.model()))
    own = setup.train_step is not None
    penalty = bool(setup.points(model).at("penalty"))
    short_step = own or (short and setup.accumulate == 1 and not closure and not penalty)
    own = setup.evaluate_hook is not None
    return Forms(short_step, own or (short and setup.metric_hook is None), points, outputs)


def script_text(setup: Setup, facts: Facts, path: Path, data_file: Path, arrays: dict[str, np.ndarray]) -> str:
    """Return the script; `arrays` becomes what its file of splits holds."""
    names, data, train = Names(setup), setup.data, setup.tables["train"]
    forms = forms_of(setup, names)
    load = load_text(setup, names, arrays)
    plateau = watches_val(setup.schedule(setup.optimizer(setup.model()), 10, 1)) if _by_epoch(setup) else False
    loss = script_parts.loss_text(setup, names, forms.outputs)
    sampled = data.sampler is not None
    model = script_parts.model_text(setup, names)
    body = template.NORMALISE.format(
        load=load,
        taken="taken.permute(0, 3, 1, 2)" if data.is_image else "taken",
        normalise=normalise_text(arrays, data.is_image, setup.needs_plain_layout),
        augment=script_parts.augment_text(setup, names),
        targets='    targets = source[1][torch.from_numpy(SPLITS["train"])]\n' if sampled else "",
        order=script_parts.order_text(setup, names),
        autocast="contextlib.nullcontext()"
        if setup.precision == "fp32"
        else f'torch.autocast("cpu", dtype={torch.bfloat16})',
        helpers=_helpers(setup, forms, "first_inputs(" in model["after_model"]),
        loss=loss + ("\n\n" + script_parts.scorer_text(setup, names) if forms.scorer else ""),
        **model,
        points="" if forms.points is None else forms.points.lstrip() + "\n",
        step=_step(setup, names, forms),
        evaluate=_evaluate(setup, names, forms),
        threads=train.get("threads_per_trial", 1),
        steps=_steps(setup),
        optimizer=script_parts.optimizer_text(setup, names),
        schedule=script_parts.schedule_text(setup, names),
        make_points="" if forms.points is None else "    points = build_points(model)\n",
        patience="" if train.get("patience") is None else template.PATIENCE.format(patience=train["patience"]),
        freeze=_freeze(setup, names),
        **_loop(setup, forms),
        step_schedule="" if _by_epoch(setup) else template.STEP_SCHEDULE,
        epoch_schedule=template.EPOCH_SCHEDULE.format(told='values["loss"]' if plateau else "")
        if _by_epoch(setup)
        else "",
        measure=_measure(setup, names, forms, path),
        monitor_key=monitored_score(data.task, train.get("monitor", "val_accuracy")),
        stem=path.stem,
    )
    parts = names.bundle.text
    banner = f"\n\n# -- the parts of the recipe {'-' * 87}\n\n\n"
    return _head(setup, facts, path, data_file, arrays, names) + (banner + parts + "\n" if parts else "") + body


def _head(setup: Setup, facts: Facts, path: Path, data_file: Path, arrays: dict[str, np.ndarray], names: Names) -> str:
    train = setup.tables["train"]
    return template.HEAD.format(
        run=facts.run,
        file=path.name,
        stem=path.stem,
        trial=facts.trial,
        epochs=setup.spec.horizon_epochs,
        seed=setup.spec.seed,
        monitor=f"val {monitored_score(setup.data.task, train.get('monitor', 'val_accuracy')).replace('_', ' ')}",
        score="-" if facts.score is None else f"{facts.score:.6g}",
        best_epoch=facts.best_epoch,
        data_file=data_file.name,
        data_words=", and the examples themselves" if "train_inputs" in arrays else "",
        versions=f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
        same=template.SAME if setup.spec.device == "cpu" else template.SAME_START,
        imports=import_text([*template.IMPORTS, *names.bundle.imports, *names.imports]),
        batch_size=setup.batch_size,
        eval_batch_size=evaluation_batch(setup),
        clip_norm=train.get("clip_norm"),
    )


def _by_epoch(setup: Setup) -> bool:
    return setup.schedule_every == "epoch"


def _helpers(setup: Setup, forms: Forms, measures_first: bool) -> str:
    short = (forms.short_step and setup.train_step is None) or (forms.short_evaluation and setup.evaluate_hook is None)
    texts = [template.AS_FLOAT, *([template.ARE_SCORES] if short else [])]
    texts += [template.FIRST_INPUTS.lstrip()] if measures_first else []
    return "\n\n".join(texts) + "\n\n"


def _steps(setup: Setup) -> str:
    batches = 'steps_per_epoch(len(SPLITS["train"]))'
    return batches if setup.accumulate == 1 else f"-(-{batches} // {setup.accumulate})"


def _step(setup: Setup, names: Names, forms: Forms) -> str:
    if setup.train_step is not None:
        return hook_text(setup.train_step, setup.tables["train"]["step"], names, template.OWN_STEP)
    if forms.short_step:
        return template.STEP
    names.imports["import itertools"] = None
    used = {fn.__name__: names.bundle.add(fn) for fn in (Tape, How, default_step)}
    told = {"points": "", "penalty": ""}
    if forms.points is not None:
        told = {"points": ", points", "penalty": ", points.penalty"}
    return template.WHOLE_STEP.format(accumulate=setup.accumulate, **used, **told)


def _evaluate(setup: Setup, names: Names, forms: Forms) -> str:
    train = setup.tables["train"]
    if setup.evaluate_hook is not None:
        return hook_text(setup.evaluate_hook, train["evaluate"], names, template.OWN_EVALUATE)
    if forms.short_evaluation:
        return template.EVALUATE
    metric = "None"
    if setup.metric_hook is not None:
        metric = names.of(setup.metric_hook.fn, train["metric"])
    return template.WHOLE_EVALUATE.format(evaluate=names.bundle.add(whole_evaluate), metric=metric)


def _loop(setup: Setup, forms: Forms) -> dict[str, str]:
    """Return how the loop takes its batches, and what follows each update."""
    batches, points = 'train_batches(sources["train"], epoch)', forms.points is not None
    after = template.AFTER_UPDATE if points else ""
    if forms.short_step:
        arguments, size = "model, inputs, targets, optimizer", "len(targets)"
        return {
            "batch": "inputs, targets", "batches": batches, "step_arguments": arguments, "size": size,
            "after_update": after,
        }  # fmt: skip
    return {
        "batch": "batches",
        "batches": f"groups_of({batches})",
        "step_arguments": "model, batches, optimizer" + (", points" if points else ""),
        "size": "sum(len(targets) for _, targets in batches)",
        "after_update": after,
    }


def _freeze(setup: Setup, names: Names) -> str:
    table = setup.tables.get("finetune")
    if table is None:
        return ""
    kept = {key: value for key, value in table.items() if key != "weights"}
    return f"        {names.bundle.add(freeze)}(model, {literal(kept)}, epoch)\n"


def _measure(setup: Setup, names: Names, forms: Forms, path: Path) -> str:
    train = setup.tables["train"]
    key = monitored_score(setup.data.task, train.get("monitor", "val_accuracy"))
    turned = is_less_better(key, train.get("monitor_mode", "max"))
    text = template.MEASURE.format(
        splits=("train_eval", "val") if setup.spec.train_subset else ("val",),
        source_of='"val" if split == "val" else "train"' if own_val(setup.data) else '"train"',
        sign="-" if turned else "",
        better=names.bundle.add(better),
        monitor_key=key,
        stem=path.stem,
    )
    if forms.points is None:
        return text
    return template.EVALUATED.format(mixed_order=names.bundle.add(mixed_order)) + textwrap.indent(text, "    ")
