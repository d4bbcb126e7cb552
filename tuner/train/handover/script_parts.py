"""The recipe's components as a training script has them: model, loss, optimizer, schedule, what is done in the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuner.parts.heads import fit_head
from tuner.parts.losses._targets import counted
from tuner.parts.replacing import Activation, activation_of, replace_activations, set_global_pool, set_head
from tuner.recipe.model import expand_path
from tuner.recipe.registry import arguments, asked, resolve
from tuner.tasks.base import Task
from tuner.train import finetune
from tuner.train.finish import REGULARISERS, named, split_table
from tuner.train.fused import can_fuse, with_late_gradients
from tuner.train.groups import combined
from tuner.train.handover import template
from tuner.train.handover.names import Expression, Names, call_text, lambda_text, literal
from tuner.train.nested import scored_part
from tuner.train.objective import (
    FeatureTerm,
    built_arguments,
    factors_of,
    is_of_features,
    names_both,
    terms_of,
)
from tuner.train.points import OFFERS, SHORT, Part, Points, as_list, part_of
from tuner.train.scheduling import FACTOR_OFFERS, is_factor, lead_of, led
from tuner.train.scoring import Scorer
from tuner.train.setup import (
    LIBRARIES,
    OWN_KEYS,
    Setup,
    model_arguments,
    optimizer_arguments,
    schedule_arguments,
)


def augment_text(setup: Setup, names: Names) -> str:
    """Return the lines that augment a batch."""
    lines = []
    for item, step in zip(setup.tables["data"].get("augment", ()), setup.data.augmentations, strict=True):
        function = names.of(step.fn, item if isinstance(item, str) else item["name"])
        offered = {name: Expression(name) for name in ("inputs", "targets", "generator")}
        offered["num_classes"] = Expression(str(setup.data.num_classes))
        taken = {name: offered[name] for name in step.asks}
        leading = () if taken else ("inputs", "targets", "generator")
        lines.append(f"    inputs, targets = {call_text(function, {**taken, **step.kwargs}, leading)}\n")
    return "".join(lines)


def order_text(setup: Setup, names: Names) -> str:
    """Return the expression of an epoch's order: places in train."""
    item = setup.tables["data"].get("sampler", "shuffle")
    table = {"name": item} if isinstance(item, str) else item
    if setup.data.sampler is None:
        return 'torch.randperm(len(SPLITS["train"]), generator=generator)'
    fn, args = resolve("sampler", table["name"], setup.env.recipe_dir), arguments(table)
    offered = {"targets": Expression("targets"), "generator": Expression("generator")}
    asks = {name: offered[name] for name in asked(fn, tuple(offered))}
    return call_text(names.of(fn, table["name"]), {**asks, **args})


def model_text(setup: Setup, names: Names) -> dict[str, str]:
    """Return how the model is built, what is done to it afterwards, and how its weights lie in memory."""
    fn, folder, data = setup.functions["model"], setup.env.recipe_dir, setup.data
    table, changes = split_table(fn, setup.tables["model"], folder)
    kwargs = model_arguments(fn, setup.tables["model"], data.input_shape, data.num_classes)
    written = {key: names.activation(item) if isinstance(item, Activation) else item for key, item in kwargs.items()}
    after = []
    if (fn.__module__ or "").split(".")[0] in LIBRARIES and "num_classes" not in kwargs:
        after.append(f"{names.bundle.add(fit_head)}(model, {data.num_classes})")
    after += _changes(changes, names, folder)
    if table.get("init"):
        init, args = named("init", table["init"], folder)
        offered = {"inputs": "first_inputs(source)", "targets": 'source[1][torch.from_numpy(SPLITS["train"])]'}
        asks = {name: Expression(offered[name]) for name in asked(init, tuple(offered))}
        name = table["init"] if isinstance(table["init"], str) else table["init"]["name"]
        after.append(call_text(names.of(init, name), {**asks, **args}, ("model",)))
    tuned = setup.tables.get("finetune") or {}
    if tuned.get("weights") is not None:
        path = f"Path({expand_path(tuned['weights'], folder)!r})"
        read, load = names.bundle.add(finetune.read_weights), names.bundle.add(finetune.load_into)
        after.append(f"{load}(model, {read}({path}), {path})")
    layout = ".to(memory_format=torch.channels_last)" if data.is_image and not setup.needs_plain_layout else ""
    return {
        "model": call_text(names.of(fn, setup.tables["model"]["name"]), written),
        "after_model": "".join(f"    {line}\n" for line in after),
        "layout": layout,
    }


def _changes(changes: Mapping[str, Any], names: Names, folder: Path) -> list[str]:
    lines = []
    if "activation" in changes:
        made = names.activation(activation_of(changes["activation"], folder))
        lines.append(f"{names.bundle.add(replace_activations)}(model, {made})")
    if "global_pool" in changes:
        fn, args = named("pool", changes["global_pool"], folder)
        lines.append(
            f"{names.bundle.add(set_global_pool)}(model, {call_text(_name(fn, changes['global_pool'], names), args)})"
        )
    if "head" in changes:
        fn, args = named("head", changes["head"], folder)
        takes = ("features", "num_classes")
        build = lambda_text(_name(fn, changes["head"], names), takes, asked(fn, takes), args)
        lines.append(f"model = {names.bundle.add(set_head)}(model, {build})")
    for name in REGULARISERS:
        if changes.get(name):
            fn, value = resolve("regulariser", name, folder), changes[name]
            args = dict(value) if isinstance(value, Mapping) else {"p": value}
            asks = {"model": Expression("model")} if asked(fn, ("model",)) else {}
            lines.append(f"model = {call_text(names.of(fn, name), {**asks, **args})}")
    return lines


def _name(fn: Any, item: Any, names: Names) -> str:
    return names.of(fn, item if isinstance(item, str) else item["name"])


def loss_text(setup: Setup, names: Names, outputs: Any) -> str:
    """Return the definition of `loss`: one, or the sum of those that are of the outputs."""
    table, folder = setup.tables["loss"], setup.env.recipe_dir
    pairs = zip(factors_of(table), terms_of(table), strict=True)
    terms = [(factor, term) for factor, term in pairs if not is_of_features(term, table, folder)]
    part = "" if isinstance(outputs, Tensor) else f"    outputs = {names.bundle.add(scored_part)}(outputs)\n"
    if len(terms) == 1 and terms[0][0] == 1.0 and not part:
        return one_loss("loss", terms[0][1], setup, names) + _counted(setup, names)
    texts = [one_loss(f"loss_{index}", term, setup, names) for index, (_, term) in enumerate(terms, 1)]
    if len(terms) == 1 and terms[0][0] == 1.0:
        value = "loss_1(outputs, targets)"
    else:
        summands = [f"{factor!r} * loss_{index}(outputs, targets)" for index, (factor, _) in enumerate(terms, 1)]
        value = f"torch.stack([{', '.join(summands)}]).sum()"
    head = 'def loss(outputs, targets):\n    """Return the objective of a batch."""\n'
    return "\n\n".join(texts) + f"\n\n{head}{part}    return {value}\n" + _counted(setup, names)


def one_loss(name: str, table: Mapping[str, Any], setup: Setup, names: Names) -> str:
    """Return the definition of one loss under a name of the script's."""
    fn = resolve("loss", table["name"], setup.env.recipe_dir)
    kwargs, function = built_arguments(fn, table, setup.class_counts), names.of(fn, table["name"])
    if isinstance(fn, type):
        return f"{name} = {call_text(function, kwargs)}\n"
    taken = {"outputs": Expression("outputs"), "targets": Expression("targets")} if names_both(fn) else {}
    text = call_text(function, {**taken, **kwargs}, () if taken else ("outputs", "targets"))
    return f'def {name}(outputs, targets):\n    """Return the loss of a batch."""\n    return {text}\n'


def _counted(setup: Setup, names: Names) -> str:
    """Return the lines that say what a batch counts in the mean of a split, where that is not its examples."""
    counts = getattr(setup.loss(), "counted", None)
    if counts is None or (setup.data.one_class_each and counts.keywords["weight"] is None):
        return ""
    return f"\n\nloss.counted = {lambda_text(names.bundle.add(counted), ('targets',), ('targets',), counts.keywords)}\n"


def scorer_text(setup: Setup, names: Names) -> str:
    """Return the definition of what measures the task's scores."""
    task = setup.data.task
    monitor = setup.tables["train"].get("monitor", "val_accuracy")
    return f"SCORER = {names.bundle.add(Scorer)}({_task_text(task, names)}, loss, {monitor!r})\n"


def _task_text(task: Task, names: Names) -> str:
    changed = {item.name: getattr(task, item.name) for item in fields(task)}  # type: ignore[arg-type]
    kwargs = {key: value for key, value in changed.items() if value != type(task).__dict__.get(key)}
    return call_text(names.bundle.add(type(task)), kwargs)


def optimizer_text(setup: Setup, names: Names) -> str:
    """Return the expression that builds the optimizer, with its parameter groups."""
    fn, table, model = setup.functions["optimizer"], setup.tables["optimizer"], setup.model()
    kwargs = optimizer_arguments(fn, table, model, list(model.parameters()))
    if can_fuse(fn, kwargs, model):
        kwargs["fused"] = True
    written = {"params": Expression(_params(setup, names)), "model": Expression("model")}
    text = call_text(names.of(fn, table["name"]), {key: written.get(key, value) for key, value in kwargs.items()})
    late = fn is torch.optim.SGD and kwargs.get("fused") and kwargs.get("momentum")
    return f"{names.bundle.add(with_late_gradients)}({text})" if late else text


def _params(setup: Setup, names: Names) -> str:
    table = setup.tables["optimizer"]
    items = [*as_list(table.get("groups")), *finetune.groups(setup.tables.get("finetune"))]
    if not items:
        return "model.parameters()"
    rest = {key: value for key, value in table.items() if key != "groups"}
    parts = [part_of("param_groups", item, setup.env.recipe_dir, "optimizer.groups") for item in items]
    texts = [_called(part, item, names) for part, item in zip(parts, items, strict=True)]
    return f"{names.bundle.add(combined)}(model, {literal(rest)}, [{', '.join(texts)}])"


def _called(part: Part, item: Any, names: Names) -> str:
    """Return a component of a point as what is called there."""
    function = _name(part.fn, item, names)
    if not isinstance(part.fn, type):
        return _lambda(function, part.fn, part.point, part.args)
    return _method(part.fn, call_text(function, part.args), part.point)


def _method(kind: type, made: str, point: str) -> str:
    """Return an object's part of a point: its method of that name, or the object itself."""
    method = getattr(kind, point, None)
    return _lambda(made if method is None else f"{made}.{point}", method or kind.__call__, point)


def schedule_text(setup: Setup, names: Names) -> str:
    """Return the expression that builds the schedule, with what goes before it."""
    fn, table = setup.functions["schedule"], setup.tables["schedule"]
    by_epoch = setup.schedule_every == "epoch"
    steps = 1 if by_epoch else setup.updates_per_epoch
    warmup, hold, rest = lead_of(fn, table, steps)
    total = "EPOCHS" if by_epoch else "total_steps"
    remaining = "left" if warmup + hold else total
    per_epoch = "1" if by_epoch else "steps"
    written = {"optimizer": "optimizer", "total_steps": remaining, "steps_per_epoch": per_epoch}
    if is_factor(fn):
        args = arguments(rest, OWN_KEYS["schedule"])
        written = {"epoch": f"at / {per_epoch}", "step": "at", "total_steps": remaining, "steps_per_epoch": per_epoch}
        asks = {name: Expression(written[name]) for name in asked(fn, FACTOR_OFFERS)}
        factor = call_text(names.of(fn, table["name"]), {**asks, **args})
        text = f"torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: {factor})"
    else:
        kwargs = schedule_arguments(fn, table, None, 1, 1)
        given = {key: Expression(written[key]) if key in written else value for key, value in kwargs.items()}
        text = call_text(names.of(fn, table["name"]), given)
    if not warmup + hold:
        return text
    return f"{names.bundle.add(led)}(lambda left: {text}, ({warmup}, {hold}), optimizer, {total}, {per_epoch})"


def points_text(setup: Setup, names: Names) -> str | None:
    """Return the definition of `build_points`: what has its say within a step; None where nothing has."""
    lines: list[str] = []
    parts: list[str] = []
    items = [item for key in setup.tables["train"] for item in _items(setup.tables["train"], key)]
    for index, (part, item) in enumerate(zip(setup.parts, items, strict=True), 1):
        if not isinstance(part.fn, type):
            parts.append(f'{{"{part.point}": {_called(part, item, names)}}}')
            continue
        lines.append(f"part_{index} = {call_text(_name(part.fn, item, names), part.args)}")
        there = [point for point in OFFERS if hasattr(part.fn, point)] or [part.point]
        texts = [f'"{point}": {_method(part.fn, f"part_{index}", point)}' for point in there]
        parts.append("{" + ", ".join(texts) + "}")
    folder, table = setup.env.recipe_dir, setup.tables["loss"]
    for index, (factor, term) in enumerate(zip(factors_of(table), terms_of(table), strict=True), 1):
        if is_of_features(term, table, folder):
            lines += one_loss(f"raw_{index}", term, setup, names).strip().splitlines()
            lines.append(f"term_{index} = {names.bundle.add(FeatureTerm)}(raw_{index}, {factor!r})")
            lines.append(f"term_{index}.attach(model)")
            parts.append(f'{{"penalty": term_{index}.penalty}}')
    if not parts:
        return None
    body = "".join(f"    {line}\n" for line in lines)
    return template.POINTS.format(body=body, points=names.bundle.add(Points), parts=",\n        ".join(parts))


def _items(train: Mapping[str, Any], key: str) -> Sequence[Any]:
    """Return what a key of the train table puts at a point, as `resolve_parts` reads it."""
    if key in SHORT and train[key] is not None:
        return [SHORT[key][1]]
    return as_list(train[key]) if key in OFFERS else []


def _lambda(function: str, fn: Any, point: str, args: Mapping[str, Any] = {}) -> str:
    """Return a function of a point as a lambda that takes what the point offers by name."""
    asks = asked(fn, OFFERS[point])
    return lambda_text(function, (*asks, "**_"), asks, args)
