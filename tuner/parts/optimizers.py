"""Optimizers: every class of torch.optim by its lower-case name, and functions `build(params, lr, **args)`."""

from __future__ import annotations

import torch


def _more() -> dict[str, type[torch.optim.Optimizer]]:
    """Return torch's own optimizers by lower-case name, whichever this version of torch has."""
    base = torch.optim.Optimizer
    return {
        name.lower(): value
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base
    }
