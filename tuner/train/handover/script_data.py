"""The data of a training script: how it loads them, which example is in which split, how they are normalised."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from tuner.core.streams import derive_seed
from tuner.parts.image_files import decode
from tuner.recipe import registry
from tuner.recipe.model import paths_expanded
from tuner.train.data import Data
from tuner.train.handover.names import Names, call_text
from tuner.train.interface import compact
from tuner.train.setup import Setup
from tuner.train.stores import ArrayStore

IN_SCRIPT = 16  # statistics up to this many numbers are written into the script itself
TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}

DIGITS = """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return {"train": (torch.from_numpy(pixels), torch.from_numpy(bunch.target.astype(np.int64)))}
"""
LIBRARY = """
    from torchvision import datasets

    data = datasets.{name}({root!r}, train=True, download=True)
    pixels = np.asarray(data.data)
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    return {{"train": (torch.from_numpy(pixels), torch.as_tensor(data.targets))}}
"""
FOLDER = """
    root = Path({root!r})
    sources = {{}}
    for name in {sources}:
        files = [{decode}(str(root / file), {size}, {channels}) for file in SPLITS[f"{{name}}_files"]]
        sources[name] = torch.from_numpy(np.stack(files)), torch.from_numpy(SPLITS[f"{{name}}_targets"])
    return sources
"""
ARRAYS = """
    return {sources}
"""
USERS = """
    seed_everything({seed})
    returned = {call}
    return {{name: as_source(value) for name, value in zip(("train", "val"), returned) if value is not None}}


def as_source(value):
    \"\"\"Return inputs and targets as tensors; of a Dataset the Dataset itself and its targets.\"\"\"
    value = value.tensors if isinstance(value, torch.utils.data.TensorDataset) else value
    if not isinstance(value, (tuple, list)):
        return value, torch.stack([torch.as_tensor(value[i][1]) for i in range(len(value))]).{cast}()
    inputs, targets = (torch.as_tensor(part) for part in value)
    inputs = inputs.float() if inputs.is_floating_point() else inputs
    return inputs.permute(0, 2, 3, 1).contiguous() if inputs.dim() == 4 else inputs, targets.{cast}()
"""


def own_val(data: Data) -> bool:
    """Return whether val comes from a source of its own, rather than from train's."""
    return data.part("val").store is not data.part("train").store


def splits_of(data: Data) -> dict[str, np.ndarray]:
    """Return the positions of each split in its source, statistics that are too long for a script, and what else the
    script cannot load by itself: names of image files, or the rows of a table.
    """
    arrays = {name: data.part(name).positions(None).numpy() for name in ("train", "train_eval", "val")}
    for name, values in (("shift", data.normaliser.shift), ("factor", data.normaliser.factor)):
        small = compact(values)
        if small is not None:
            arrays[name] = small.numpy()
    return arrays


def normalise_text(arrays: dict[str, np.ndarray], is_image: bool, plain: bool) -> str:
    """Return the body of `normalise`; statistics are in the script where they are few.

    `plain`: the model fails on images whose channels lie last in memory.
    """
    if "shift" not in arrays:
        lines = ["    values = inputs if inputs.dtype in (torch.int32, torch.int64) else inputs.float()"]
    elif arrays["shift"].size <= IN_SCRIPT:
        given = {name: f"torch.tensor({arrays.pop(name).tolist()})" for name in ("shift", "factor")}
        lines = [
            f"    shift = {given['shift']}",
            f"    factor = {given['factor']}",
            "    values = (inputs.float() - shift) * factor",
        ]
    else:
        lines = [
            '    values = (inputs.float() - torch.from_numpy(SPLITS["shift"])) * torch.from_numpy(SPLITS["factor"])'
        ]
    layout = f".contiguous({'' if plain else 'memory_format=torch.channels_last'})" if is_image else ""
    return "\n".join([*lines, f"    return values{layout}"]) + "\n"


def load_text(setup: Setup, names: Names, arrays: dict[str, np.ndarray]) -> str:
    """Return the body of `load`, and add to `arrays` what it cannot read elsewhere."""
    table, data = paths_expanded(setup.tables["data"], setup.env.recipe_dir), setup.data
    source = table["source"]
    if ":" in source or "." in source:
        fn = registry.resolve("source", source, setup.env.recipe_dir)
        known = set(type_fields())
        kwargs = {**{key: value for key, value in table.items() if key not in known}, **table.get("args", {})}
        seed = derive_seed(table.get("split_seed", 0), "load")  # as tuner calls it
        cast = "float" if data.targets("train").is_floating_point() else "long"
        return USERS.format(seed=seed, cast=cast, call=call_text(names.of(fn, source), kwargs))
    if source == "digits":
        return DIGITS
    sources = ("train", "val") if own_val(data) else ("train",)
    if source in TORCHVISION:
        return LIBRARY.format(name=TORCHVISION[source], root=str(table.get("root") or "data"))
    if source == "image_folder":
        root = Path(table["root"])
        for name in sources:
            part = data.part(name)
            count = 1 + max(int(data.part(split).positions(None).max()) for split in _from(name, data))
            arrays[f"{name}_files"] = np.array([os.path.relpath(part.place(i), root) for i in range(count)])
            arrays[f"{name}_targets"] = _targets(part.store, count)
        side, channels = table.get("image_size"), table.get("channels", 3)
        pair = (side, side) if isinstance(side, int) else tuple(side) if side is not None else None
        function = names.bundle.add(decode)
        return FOLDER.format(root=str(root), sources=sources, decode=function, size=pair, channels=channels)
    for name in sources:
        part = data.part(name)
        assert isinstance(part.store, ArrayStore)
        arrays[f"{name}_inputs"] = (
            part.store.values.numpy() if part.store.size is None else part.store.whole().permute(0, 2, 3, 1).numpy()
        )
        arrays[f"{name}_targets"] = part.store.targets.numpy()
    pairs = ", ".join(
        f'"{name}": (torch.from_numpy(SPLITS["{name}_inputs"]), torch.from_numpy(SPLITS["{name}_targets"]))'
        for name in sources
    )
    return ARRAYS.format(sources="{" + pairs + "}")


def _from(source: str, data: Data) -> tuple[str, ...]:
    """Return the splits that are taken from a source."""
    if source == "val":
        return ("val",)
    return ("train", "train_eval") if own_val(data) else ("train", "train_eval", "val")


def _targets(store: Any, count: int) -> np.ndarray:
    if isinstance(store, ArrayStore):
        return store.targets[:count].numpy()
    return np.array([store.example(i)[1] for i in range(count)], dtype=np.int64)


def type_fields() -> tuple[str, ...]:
    """Return the keys of the data table that are tuner's own, not the loader's."""
    from tuner.recipe.model import Data

    return tuple(Data.model_fields)
