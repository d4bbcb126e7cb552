"""A trial's parts, made of its recipe tables: data, model, loss, optimizer, schedule and hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from tuner.core.errors import EnvironmentProblem, UsageError, UserCodeError, user_code
from tuner.core.formatting import shown
from tuner.core.streams import derive_seed
from tuner.core.trial import TrialEnv, TrialSpec
from tuner.parts.heads import check_input, fit_head
from tuner.recipe.registry import Hook, arguments, bind, call, hook, resolve
from tuner.train import finetune, own_loss
from tuner.train.data import Data, load_data
from tuner.train.device import keep_freed_memory, pick_device, seed_everything, take_gpu
from tuner.train.finetune import loaded
from tuner.train.finish import change, check_changes, first_weights, split_table
from tuner.train.fused import can_fuse, with_late_gradients
from tuner.train.groups import param_groups
from tuner.train.kernel_asserts import as_on_cpu
from tuner.train.layout import LIBRARIES as LIBRARIES_OF_MODELS
from tuner.train.layout import fails_channels_last, plain
from tuner.train.nested import hand_over_parts, is_one, take_part, zeros_of
from tuner.train.objective import as_scalar, check_terms, feature_terms, objective, states_of
from tuner.train.own_step import own_step_problems
from tuner.train.points import Part, Points, as_list, build, part_of, resolve_parts
from tuner.train.scheduling import FACTOR_OFFERS, Schedule, by_factor, is_factor, lead_of, led, watches_val
from tuner.train.scoring import Scorer
from tuner.train.shares import sharing_problems
from tuner.train.teacher import teachers

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
OWN_KEYS = {
    "model": ("name", "init", "output"),
    "optimizer": ("name", "lr", "weight_decay", "groups"),
    "schedule": ("name", "every"),
}
HOOKS = {
    "step": ("model", "batch", "loss", "optimizer"),
    "evaluate": ("model", "batches", "loss"),
    "metric": ("outputs", "targets"),
}


@dataclass(frozen=True)
class Trained:
    """A model with the weights of its best epoch (`best_epoch` is None where nothing was evaluated: the last ones)."""

    model: nn.Module
    best_epoch: int | None


@dataclass(frozen=True)
class Setup:
    """What a trial trains with. Every call of a method builds a new one; two models share nothing."""

    spec: TrialSpec
    env: TrialEnv
    data: Data
    functions: Mapping[str, Callable[..., Any]]
    train_step: Hook | None = None
    evaluate_hook: Hook | None = None
    metric_hook: Hook | None = None
    parts: tuple[Part, ...] = ()
    trained: Trained | None = None

    @property
    def tables(self) -> Mapping[str, Any]:
        return self.spec.tables

    @property
    def batch_size(self) -> int:
        return self.tables["train"]["batch_size"]

    @property
    def accumulate(self) -> int:
        """How many batches an update is made of."""
        return self.tables["train"].get("accumulate", 1)

    @property
    def updates_per_epoch(self) -> int:
        """The number of updates in an epoch; the last one may be made of fewer batches."""
        return -(-self.data.steps_per_epoch(self.batch_size) // self.accumulate)

    @property
    def precision(self) -> str:
        """The trial's precision; a user's own step gets fp32 unless the recipe itself says otherwise."""
        own = self.train_step is not None and self.tables["train"].get("precision", "auto") == "auto"
        return "fp32" if own else self.spec.precision

    @property
    def schedule_every(self) -> str:
        """Whether the schedule is stepped after every update ("step") or after every epoch ("epoch")."""
        plateau = self.tables["schedule"]["name"] == "plateau"  # it watches the val loss, which an epoch brings
        return "epoch" if plateau else self.tables["schedule"].get("every", "step")

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the trial's precision, for forward passes."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(torch.device(self.env.device).type, dtype=DTYPES[self.precision])

    def model(self, seed: int | None = None) -> nn.Module:
        """Build the model on the device, its weights drawn from the stream (seed, "init"), always on the CPU.

        Raises:
            UsageError: arguments do not fit, channels do not fit.
            UserCodeError: the user's function raised, or gave no Module.
        """
        seed = self.spec.seed if seed is None else seed
        shape, classes = self.data.input_shape, self.data.num_classes
        table, folder = self.tables["model"], self.env.recipe_dir
        own = own_loss.is_asked(self.tables["loss"])
        if own:  # it gives all of its outputs, of which the loss is one
            table = {key: value for key, value in table.items() if key != "output"}
        model = built_model(self.functions, table, shape, classes, folder, seed)
        if own:
            own_loss.listen(model)
        if table.get("init"):
            first_weights(model, table["init"], folder, self._examples, lambda: self.data.targets("train"))
        loaded(model, self.tables.get("finetune", {}), folder)
        model = model.to(self.env.device)
        if self.needs_plain_layout:
            return plain(model).train()
        layout = torch.channels_last if self.data.is_image else torch.preserve_format
        return model.to(memory_format=layout).train()

    @cached_property
    def needs_plain_layout(self) -> bool:
        """Whether the model of the user's own code fails on channels-last images alone; a model is built to ask it."""
        if "model" not in self.functions or not self.data.is_image:  # the user's own module, or no images
            return False
        library = (getattr(self.functions["model"], "__module__", None) or "").split(".")[0]
        if library in LIBRARIES_OF_MODELS:
            return False
        shape, table, folder = self.data.input_shape, self.tables["model"], self.env.recipe_dir
        model = built_model(self.functions, table, shape, self.data.num_classes, folder, self.spec.seed)
        inputs, _ = next(iter(self.data.batches("train", 2, indices=torch.arange(min(2, self.data.size("train"))))))
        return fails_channels_last(model.to(self.env.device), inputs)

    def _examples(self) -> Any:
        """Return some examples of train as the model sees them, for the inits that measure."""
        size = min(256, self.data.size("train"))
        inputs, _ = next(iter(self.data.batches("train", size, indices=torch.arange(size))))
        return inputs.cpu() if isinstance(inputs, Tensor) else inputs

    def scorer(self, loss: Callable[[Any, Tensor], Tensor]) -> Scorer:
        """Return what measures the task's scores, and the one that is monitored."""

        def asked(outputs: Any, targets: Tensor) -> Tensor:
            with as_on_cpu(outputs.device):  # about numbers that it may refuse
                return loss(outputs, targets)

        return Scorer(self.data.task, asked, self.tables["train"].get("monitor", "val_accuracy"))

    def loss(self) -> Callable[[Any, Tensor], Tensor]:
        """Return the function of (outputs, targets) that gives the objective; it checks that this is a scalar."""
        table = self.tables["loss"]
        found = self._objective(table)
        if not own_loss.is_asked(table):
            return found
        if "terms" in table:
            raise UsageError(
                'loss: "model" is the model\'s own loss and no term of a list', "Add the others up in the model."
            )
        ignored = {"ignore_index": table["ignore_index"]} if "ignore_index" in table else {}

        def stand_in() -> Callable[[Any, Tensor], Tensor] | None:
            tables = {
                name: {"name": name, **(ignored if name == "cross_entropy" else {})} for name in own_loss.CANDIDATES
            }
            return own_loss.equal_to(self, found, lambda name: self._objective(tables[name]))

        return own_loss.with_stand_in(found, stand_in)

    def _objective(self, table: Mapping[str, Any]) -> Callable[[Any, Tensor], Tensor]:
        return objective(table, self.env.device, self.env.recipe_dir, self.class_counts)

    def class_counts(self) -> Tensor:
        """Return the number of train examples (or positions) of each class."""
        targets = self.data.targets("train")
        if targets.is_floating_point():
            raise UsageError(f'loss.weight: "balanced" is of classes, the task is {self.data.task.name}')
        classes = self.data.num_classes  # 255, say, may be a class that is left out
        return torch.bincount(targets[(targets >= 0) & (targets < classes)], minlength=classes)

    def optimizer(self, model: nn.Module, **table_overrides: Any) -> torch.optim.Optimizer:
        """Build the recipe's optimizer over the model's parameters; `table_overrides` replace keys of its table.

        Raises:
            UsageError: arguments do not fit.
            UserCodeError: the user's function raised, or gave no Optimizer.
        """
        fn, folder = self.functions["optimizer"], self.env.recipe_dir
        table = {**self.tables["optimizer"], **table_overrides}
        params = param_groups(model, table, folder, finetune.groups(self.tables.get("finetune")))
        kwargs = optimizer_arguments(fn, table, model, params)
        if self.precision != "fp16" and can_fuse(fn, kwargs, model):
            kwargs["fused"] = True
        optimizer = call(fn, kwargs, "optimizer", folder)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise _not_a("optimizer.name", fn, optimizer, "torch.optim.Optimizer")
        return with_late_gradients(optimizer)

    def points(self, model: nn.Module) -> Points:
        """Build the parts that have their say within a step: penalties, averages of the weights and the like."""
        terms = feature_terms(self.tables["loss"], self.env.device, self.env.recipe_dir, self.class_counts)
        for term in terms:
            term.attach(model)
        points = build(self.parts, [*({"penalty": term.penalty} for term in terms), *teachers(self, model)])
        points.states += [state for term in terms for state in states_of(term.loss)]
        return points

    def built(self, table: Mapping[str, Any]) -> nn.Module:
        """Build a model of a table of its own on the device, with the trial's seed: a teacher."""
        functions = {**self.functions, "model": resolve("model", table["name"], self.env.recipe_dir)}
        shape, classes = self.data.input_shape, self.data.num_classes
        return built_model(functions, table, shape, classes, self.env.recipe_dir, self.spec.seed).to(self.env.device)

    def schedule(self, optimizer: torch.optim.Optimizer, total_steps: int, steps_per_epoch: int) -> Schedule:
        """Build the learning-rate schedule over `total_steps` updates.

        With `every = "epoch"` it is told epochs in place of steps, and is to be stepped after each epoch.
        """
        if self.schedule_every == "epoch":
            total_steps, steps_per_epoch = max(1, round(total_steps / max(steps_per_epoch, 1))), 1
        fn, folder = self.functions["schedule"], self.env.recipe_dir
        warmup, hold, table = lead_of(fn, self.tables["schedule"], steps_per_epoch)

        def build(steps: int) -> Any:
            if is_factor(fn):
                return by_factor(fn, table, optimizer, steps, steps_per_epoch, folder)
            return call(fn, schedule_arguments(fn, table, optimizer, steps, steps_per_epoch), "schedule", folder)

        schedule = led(build, (warmup, hold), optimizer, total_steps, steps_per_epoch)
        if not isinstance(schedule, Schedule):
            raise _not_a("schedule.name", fn, schedule, "torch.optim.lr_scheduler.LRScheduler")
        if watches_val(schedule) and self.schedule_every != "epoch":
            raise UsageError("schedule.every: ReduceLROnPlateau watches the val loss", 'Set schedule.every = "epoch".')
        return schedule


def make_setup(spec: TrialSpec, env: TrialEnv, on_progress: Callable[[float, str], None] | None = None) -> Setup:
    """Load the data and resolve every component of a trial; `on_progress(share, words)` hears of decoding.

    Raises:
        UsageError, UserCodeError, InputError, EnvironmentProblem: what is wrong with a component or the data.
    """
    env = replace(env, device=pick_device(env.device))
    keep_freed_memory()
    take_gpu(env.device)
    functions, hooks = resolve_all(spec.tables, env.recipe_dir)
    return Setup(spec, env, load_data(dict(spec.tables), env, on_progress=on_progress), functions, **hooks)


def resolve_all(tables: Mapping[str, Any], recipe_dir: Path) -> tuple[dict[str, Callable[..., Any]], dict[str, Any]]:
    """Resolve the named components and the hooks of the train table.

    Raises:
        UsageError: all unknown names and unfit signatures at once.
    """
    problems: list[UsageError] = []
    functions: dict[str, Callable[..., Any]] = {}
    hooks: dict[str, Any] = {}
    names = {kind: tables[kind]["name"] for kind in ("model", "optimizer", "schedule")}
    if init := tables["model"].get("init"):
        names["init"] = init if isinstance(init, str) else init.get("name", "")
    for kind, name in names.items():
        try:
            functions[kind] = resolve(kind, name, recipe_dir)
        except UsageError as error:
            problems.append(error)
        if kind == "model":
            problems += _change_problems(functions.get("model"), tables["model"], recipe_dir)
            problems += check_terms(tables["loss"], recipe_dir)
    hooks["parts"], wrong = resolve_parts(tables, recipe_dir)
    problems += wrong
    problems += _group_problems(tables["optimizer"], recipe_dir)
    problems += own_step_problems(tables, recipe_dir) + sharing_problems(tables, recipe_dir)
    for kind, offered in HOOKS.items():
        try:
            if name := tables["train"].get(kind):
                hooks["train_step" if kind == "step" else f"{kind}_hook"] = hook(kind, name, offered, recipe_dir)
        except UsageError as error:
            problems.append(error)
    if problems:
        raise UsageError("\n".join(error.message for error in problems), problems[0].hint)
    hooks["parts"] = tuple(hooks["parts"])
    return functions, hooks


def _change_problems(fn: Callable[..., Any] | None, table: Mapping[str, Any], recipe_dir: Path) -> list[UsageError]:
    try:
        if fn is not None:
            check_changes(split_table(fn, table, recipe_dir)[1], recipe_dir)
    except UsageError as error:
        return [error]
    return []


def _group_problems(table: Mapping[str, Any], recipe_dir: Path) -> list[UsageError]:
    problems = []
    for item in as_list(table.get("groups")):
        try:
            part_of("param_groups", item, recipe_dir, "optimizer.groups")
        except UsageError as error:
            problems.append(error)
    return problems


def built_model(
    functions: Mapping[str, Callable[..., Any]],
    table: Mapping[str, Any],
    input_shape: Any,
    num_classes: int,
    folder: Path,
    seed: int,
) -> nn.Module:
    """Build the model of a recipe's table on the CPU, its weights drawn from the stream (seed, "init")."""
    seed_everything(derive_seed(seed, "init"))
    model = _build_model(functions["model"], table, input_shape, num_classes, folder)
    if not is_one(input_shape):
        hand_over_parts(model)
    if table.get("output") is not None:
        take_part(model, str(table["output"]))
    if any(nn.parameter.is_lazy(item) for item in model.parameters()):
        with torch.no_grad(), user_code("model", folder):
            model.eval()(zeros_of(input_shape, 2))
    return model


def _build_model(
    fn: Callable[..., Any], table: Mapping[str, Any], input_shape: Any, num_classes: int, folder: Path
) -> nn.Module:
    library = (getattr(fn, "__module__", None) or "").split(".")[0]
    table, changes = split_table(fn, table, folder)
    kwargs = model_arguments(fn, table, input_shape, num_classes)
    try:
        model = call(fn, kwargs, "model", folder)
    except (URLError, ConnectionError) as error:
        text = f"model.weights: the pretrained weights cannot be downloaded: {error}"
        raise EnvironmentProblem(text, "Put them into torch's hub folder, or leave `weights` out.") from error
    if not isinstance(model, nn.Module):
        raise _not_a("model.name", fn, model, "torch.nn.Module")
    if library in LIBRARIES:
        check_input(model, input_shape, getattr(fn, "__name__", "the model"))
        if "num_classes" not in kwargs:
            fit_head(model, num_classes)
    return change(model, changes, folder)


LIBRARIES = ("torchvision", "timm")
WEIGHT_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


def _not_a_file(weights: Any) -> None:
    """Refuse a file where torchvision wants the name of weights of its own."""
    if isinstance(weights, str) and weights.endswith(WEIGHT_FILES):
        raise UsageError(
            f"model.weights: {shown(weights)} is a file; torchvision takes the name of its own weights here",
            f'Such as "DEFAULT" or "IMAGENET1K_V1". A file of yours: [finetune] weights = {shown(weights)}.',
        )


def model_arguments(
    fn: Callable[..., Any], table: Mapping[str, Any], input_shape: Any, num_classes: int
) -> dict[str, Any]:
    """Return the arguments of the model's builder; a torchvision model with weights keeps its own head at first."""
    library = (getattr(fn, "__module__", None) or "").split(".")[0]
    args = arguments(split_table(fn, table)[0], OWN_KEYS["model"])
    offered = {"input_shape": input_shape, "num_classes": num_classes, "num_outputs": num_classes}
    if library == "torchvision" and (args.get("weights") is not None or args.get("pretrained")):
        _not_a_file(args.get("weights"))
        del offered["num_classes"], offered["num_outputs"]
    return bind(fn, offered, args, "model", through_kwargs=("num_classes",) if library in LIBRARIES else ())


def optimizer_arguments(
    fn: Callable[..., Any], table: Mapping[str, Any], model: nn.Module | None, params: Sequence[Any] = ()
) -> dict[str, Any]:
    """Return the arguments of an optimizer. A weight decay of 0 is left out where the optimizer knows none."""
    args = arguments(table, OWN_KEYS["optimizer"])
    decay = table.get("weight_decay")
    offered = {"params": list(params), "lr": table["lr"], "model": model}
    if decay:
        args["weight_decay"] = decay
    elif decay is not None:
        offered["weight_decay"] = decay
    kwargs = bind(fn, offered, args, "optimizer")
    return {key: tuple(item) if isinstance(item, list) and key == "betas" else item for key, item in kwargs.items()}


def schedule_arguments(
    fn: Callable[..., Any],
    table: Mapping[str, Any],
    optimizer: torch.optim.Optimizer | None,
    total_steps: int,
    steps_per_epoch: int,
) -> dict[str, Any]:
    """Return the arguments of a schedule, without those of what goes before it."""
    if is_factor(fn):
        return bind(fn, dict.fromkeys(FACTOR_OFFERS), arguments(table, OWN_KEYS["schedule"]), "schedule")
    table = lead_of(fn, table, 1)[2]
    offered = {"optimizer": optimizer, "total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    return bind(fn, offered, arguments(table, OWN_KEYS["schedule"]), "schedule")


def loss_of_step(value: Any) -> Tensor:
    """Return what a step of the user's own returned, as a scalar tensor.

    Raises:
        UserCodeError: "must return the loss of the batch", "must be a scalar tensor".
    """
    if value is None:
        raise UserCodeError("train.step: must return the loss of the batch, it returned None", "Return it.")
    return torch.tensor(float(value)) if isinstance(value, (int, float)) else as_scalar(value, "train.step: the loss")


def _not_a(key: str, fn: Callable[..., Any], value: Any, expected: str) -> UserCodeError:
    name = getattr(fn, "__name__", type(fn).__name__)
    kind = type(value)
    hint = "Return it." if value is None else f"Return the {expected.rpartition('.')[2]} itself."
    return UserCodeError(f"{key}: {name}() must return a {expected}, returned a {kind.__name__}", hint)
