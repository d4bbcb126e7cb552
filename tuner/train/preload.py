"""Everything that a trial may import of ours, and torch, loaded at once. Importing torch does not touch CUDA."""

import importlib
import pkgutil

import numpy.ma
import numpy.random  # noqa: F401  (numpy loads these two when they are first used)

import tuner.parts
import tuner.train.trial

PARTS = pkgutil.walk_packages(tuner.parts.__path__, "tuner.parts.")  # otherwise loaded when a recipe names them
for part in PARTS:
    importlib.import_module(part.name)
