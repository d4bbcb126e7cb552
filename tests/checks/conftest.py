"""A stand-in for a trial's Setup: tiny tensors, models with known weights."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from tuner.tasks.classification import Classification
from tuner.train.points import Points
from tuner.train.scoring import Scorer


class TinyData:
    """The part of Data's interface that probes use, over given tensors."""

    def __init__(self, train, val=None, num_classes=None, class_names=(), stochastic=False, augment=None, task=None):
        self.tensors = {"train": train} | ({} if val is None else {"val": val})
        self.num_classes = num_classes or int(train[1].max()) + 1
        self.class_names, self.feature_names, self.columns = list(class_names), None, None
        self.input_shape, self.device = tuple(train[0].shape[1:]), torch.device("cpu")
        self.is_image, self.stochastic = train[0].ndim == 4, stochastic
        self.task, self.is_one, self.streams = task or Classification(), True, False
        self.augment, self.augmentations = augment, () if augment is None else (augment,)

    def size(self, split):
        return len(self.tensors[split][1]) if split in self.tensors else 0

    def targets(self, split):
        return self.tensors[split][1]

    def inputs(self, split, indices=None):
        inputs = self.tensors[split][0]
        return inputs if indices is None else inputs[indices]

    @property
    def one_class_each(self):
        return self.targets("train").ndim == 1

    def describe(self, split, index):
        return f"{split} row {index}"

    def steps_per_epoch(self, batch_size):
        return len(self.tensors["train"][1]) // batch_size

    def epoch(self, seed, epoch, batch_size, augment=True):
        order = torch.randperm(self.size("train"), generator=torch.Generator().manual_seed(seed + epoch))
        for inputs, targets in self.batches("train", batch_size, order):
            yield self.augment(inputs, targets) if augment and self.augment is not None else (inputs, targets)

    def batches(self, split, batch_size, indices=None):
        inputs, targets = self.tensors[split]
        indices = torch.arange(len(targets)) if indices is None else indices
        return _Batches(inputs[indices], targets[indices], batch_size)


class _Batches:
    def __init__(self, inputs, targets, batch_size):
        self.parts = list(zip(inputs.split(batch_size), targets.split(batch_size), strict=True))

    def __iter__(self) -> Iterator:
        return iter(self.parts)


@pytest.fixture
def setup_of(tmp_path: Path):
    def build(train, model, *, loss=nn.functional.cross_entropy, optimizer=None, seed=0, batch_size=32, **more):
        table = {"name": "sgd", "lr": 0.1, "weight_decay": None} | more.pop("optimizer_table", {})
        tables = {
            "train": {"batch_size": batch_size},
            "optimizer": table,
            "loss": {"name": more.pop("loss_name", "own")},
            "schedule": {"name": more.pop("schedule_name", "constant")},
        }
        schedule = more.pop("schedule", lambda optimizer, total: LambdaLR(optimizer, lambda at: 1.0))

        def make_model(model_seed=None):
            torch.manual_seed(seed if model_seed is None else model_seed)
            return model().train()

        def make_optimizer(model, **changes):
            kwargs = {key: value for key, value in (table | changes).items() if key != "name" and value is not None}
            return (optimizer or torch.optim.SGD)(model.parameters(), **kwargs)

        return SimpleNamespace(
            spec=SimpleNamespace(seed=seed, tables=tables),
            tables=tables,
            batch_size=batch_size,
            scorer=lambda loss: Scorer(Classification(), loss),
            env=SimpleNamespace(recipe_dir=tmp_path, stage_dir=tmp_path / "test", device="cpu"),
            data=TinyData(train, more.pop("val", None), more.pop("num_classes", None), **more.pop("data", {})),
            model=lambda seed=None: make_model(seed),
            loss=lambda: loss,
            optimizer=make_optimizer,
            schedule=lambda optimizer, total, steps_per_epoch: schedule(optimizer, total),
            parts=(),
            points=lambda model: Points(),
            **(
                {
                    "train_step": None,
                    "schedule_every": "step",
                    "evaluate_hook": None,
                    "metric_hook": None,
                    "trained": None,
                }
                | more
            ),
        )

    return build


@pytest.fixture
def blobs():
    """Return n examples of 10 well separated classes in 20 columns, of equal numbers."""

    def build(n=200, classes=10, seed=0):
        generator = torch.Generator().manual_seed(seed)
        targets = torch.arange(n) % classes
        inputs = torch.randn(n, 20, generator=generator)
        inputs[torch.arange(n), targets] += 4
        return inputs, targets

    return build
