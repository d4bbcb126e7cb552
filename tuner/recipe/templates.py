"""Recipe files: finding one by name, and writing one to start from (`tuner new`)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tuner.core.errors import UsageError, did_you_mean
from tuner.core.formatting import clipped
from tuner.core.store import write_bytes
from tuner.recipe.model import NAME_PATTERN

DATA = {
    "digits": 'source = "digits"              # 1,797 images of 8x8 pixels, bundled with scikit-learn',
    "mnist": 'source = "mnist"               # downloaded on first use\nroot = "~/.cache/torchvision"',
    "fashion_mnist": 'source = "fashion_mnist"       # downloaded on first use\nroot = "~/.cache/torchvision"',
    "cifar10": 'source = "cifar10"             # downloaded on first use\nroot = "~/.cache/torchvision"',
    "cifar100": 'source = "cifar100"            # downloaded on first use\nroot = "~/.cache/torchvision"',
    "image_folder": (
        'source = "image_folder"        # root/<class>/*.jpg, or root/{train,val,test}/<class>/*.jpg\n'
        'root = "path/to/images"        # relative to this file; ~ and $VARIABLES are expanded\n'
        "image_size = 64"
    ),
    "table": (
        'source = "table"               # a CSV or Parquet file: numeric and categorical columns\n'
        'path = "path/to/table.csv"     # relative to this file\n'
        'target = "label"               # the column that holds the class'
    ),
    "npz": (
        'source = "npz"                 # a numpy archive with the arrays inputs and targets\n'
        'path = "path/to/arrays.npz"    # relative to this file'
    ),
}
FLAT = ("table", "npz")
NAME_HINT = "Letters a to z, digits, '.', '_' and '-' only, and a letter or digit first, e.g. my_images."

RECIPE = """\
# {name}: the tuning checklist, step by step.
#
#   tuner run {path}       steps 1 to 6; the same command goes on where it stopped
#   tuner test {path}      the test accuracy, once, at the end

name = "{name}"
seed = 0

[data]
{data}
{more}
[model]
{model}

[loss]
{loss}

[optimizer]
name = "sgd"                   # any torch.optim class, or "file.py:build"
lr = 0.05                      # tuner lr-sweep finds the band of good rates
momentum = 0.9
weight_decay = 5e-4

[schedule]
name = "cosine"                # constant | step | cosine | one_cycle | ...; or "file.py:build"

[train]
batch_size = 64
monitor = "val_accuracy"       # what is maximised
{step}
[search]                       # what coarse and fine vary: any key of this file
"optimizer.lr" = "auto"        # the band that lr-sweep found
"optimizer.weight_decay" = {{ low = 1e-6, high = 1e-2, log = true }}

[stages.coarse]                # every setting of a stage is also an option: tuner coarse --help
trials = 8
epochs = 3

[stages.fine]
trials = 4
epochs = 12
"""

SPLIT = """\
val_fraction = 0.2             # only where the data has no val split of its own
# test_fraction = 0.2          # only where it has no test split; set aside first
"""
IMAGES = """\
# normalize = "standardize"    # none | scale | channel_mean | standardize | mean_image | imagenet
# augment = ["hflip", { name = "random_crop", padding = 4 }]
"""
ROWS = '# normalize = "standardize"    # none | scale | standardize; of each column\n'
TABLE = """\
# categorical = ["zip"]        # columns of numbers that are codes, not quantities
# drop = ["id"]                # columns that are no inputs
"""
OWN_TEST = ("mnist", "fashion_mnist", "cifar10", "cifar100")  # sources that have a test split
EDIT = {
    "image_folder": "root and image_size: where your images are, and the size that they are brought to",
    "table": "path and target: where your table is, and the column that holds the class",
    "npz": "path: where your arrays are",
}


def to_edit(source: str, custom: bool) -> str:
    """Return what a new recipe needs before it runs; empty where it runs as it is."""
    return "" if custom else EDIT.get(source, "")


def _more(source: str, custom: bool) -> str:
    """Return the keys of `[data]` that apply to a source."""
    split = SPLIT.splitlines(keepends=True)[0] if source in OWN_TEST and not custom else SPLIT
    if custom:
        return split + IMAGES
    return split + (TABLE + ROWS if source == "table" else ROWS if source == "npz" else IMAGES)


HOOKS = '''\
"""Data, model, loss and train step of the recipe {name}. Keep what you need; delete the rest, here and there."""

import torch
from sklearn.datasets import load_digits
from torch import nn


def load():
    """Return (train, val) or (train, val, test): pairs of arrays, or map-style datasets of (input, target)."""
    digits = load_digits()
    inputs = torch.as_tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16  # (N, 1, 8, 8)
    return (inputs, torch.as_tensor(digits.target)), None  # None: tuner takes val and test from train


def build(input_shape, num_classes, width):
    """Return the network; input_shape and num_classes come from the data, the rest from the recipe."""
    channels, height, breadth = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(width * (height // 2) * (breadth // 2), num_classes),
    )


def loss(outputs, targets):
    """Return the scalar that is minimised."""
    return nn.functional.cross_entropy(outputs, targets)


def train_step(model, batch, loss, optimizer):
    """Do one update, and return the loss."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    return value
'''


def find_recipe(text: str) -> Path:
    """Return the recipe's path: as given, or the name of a file in recipes/.

    Raises:
        UsageError: there is neither; close names are proposed.
    """
    for path in (Path(text), Path("recipes") / text, Path("recipes") / f"{text}.toml"):
        if os.path.isfile(path):  # which is false, and raises nothing, for a name that no disk could hold
            return path
    folder = Path("recipes")
    known = [str(path.relative_to(folder).with_suffix("")) for path in sorted(folder.glob("**/*.toml"))]
    here = {path.stem: path.name for path in sorted(Path(".").glob("*.toml"))}
    close = did_you_mean(Path(text).stem, [*known, *here])
    listed = f"In recipes/: {clipped(', '.join(known), 200)}." if known else "`tuner new` writes one."
    if guess := next((name for stem, name in here.items() if stem == text or close.endswith(f" {stem!r}?")), None):
        listed = f"A file of this folder is given with its ending: {guess}"
    raise UsageError(f"{clipped(text, 200)}: no such recipe{close}", listed)


def write_recipe(name: str, source: str, custom: bool, force: bool) -> list[Path]:
    """Write NAME.toml (and NAME.py) into recipes/, or here where there is none; return the paths, recipe first.

    Raises:
        UsageError: the name or the source is not one, or a file is there already.
    """
    name = name.removesuffix(".toml")
    if not re.match(NAME_PATTERN, name):
        raise UsageError(f"{name!r} cannot name a recipe", NAME_HINT)
    if source not in DATA:
        raise UsageError(
            f"--source {source}: no such source{did_you_mean(source, DATA)}", f"One of: {', '.join(DATA)}."
        )
    folder = Path("recipes") if Path("recipes").is_dir() else Path(".")
    contents = {folder / f"{name}.toml": _recipe(name, folder / f"{name}.toml", source, custom)}
    if custom:
        contents[folder / f"{name}.py"] = HOOKS.format(name=name)
    there = [str(path) for path in contents if path.exists()]
    if there and not force:
        raise UsageError(f"{', '.join(there)} is there already", "Choose another name, or overwrite with --force.")
    for path, content in contents.items():
        write_bytes(path, content.encode())
    return list(contents)


def _recipe(name: str, path: Path, source: str, custom: bool) -> str:
    if custom:
        return RECIPE.format(
            name=name,
            path=path,
            data=f'source = "{name}.py:load"',
            more=_more(source, custom),
            model=f'name = "{name}.py:build"\nwidth = 16',
            loss=f'name = "{name}.py:loss"',
            step=f'step = "{name}.py:train_step"\n',
        )
    images = 'mlp | convnet | resnet8 | resnet20 | "torchvision.models.resnet18" | "file.py:build"'
    choices = 'mlp | "file.py:build"' if source in FLAT else images
    kind, width = ("mlp", 64) if source in FLAT else ("convnet", 16)
    model = f'name = "{kind}"' + " " * (22 - len(kind)) + f"# {choices}\nwidth = {width}\ndepth = 2"
    loss = 'name = "cross_entropy"\nlabel_smoothing = 0.0'
    more = _more(source, custom)
    return RECIPE.format(name=name, path=path, data=DATA[source], more=more, model=model, loss=loss, step="")
