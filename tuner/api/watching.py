"""`tuner.watch`: a loop that exists already, looked at while it runs and judged when it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from tuner.api.logs import judged
from tuner.api.objects import check_objects
from tuner.api.report import Report
from tuner.api.watched import Updates, judged_updates
from tuner.core.errors import UsageError
from tuner.parts.losses.own import model as loss_of_model

EVERY = 20  # updates between looks at gradients and activations: what costs time
EPOCHS = 20  # parts that a run without stated epochs is cut into
SPREAD_OVER = 4096  # values of a layer's outputs that their spread is taken of, at least
SAMPLED = 16  # values of a parameter that are compared, at least


class Watch:
    """What a loop did: the loss of every update, its rate, and now and then the gradients and activations.

    `w.loss` is the loss to call; a loss that is a module may be called as before. `w.epoch(val_loss, val_accuracy)`
    ends an epoch. After the block, `w.report` judges them by the rules of steps 2, 3 and 6, as far as one training can
    answer these.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[..., Tensor] | str, every: int = EVERY
    ) -> None:
        check_objects(model, loss, optimizer)
        self.model, self.optimizer, self.every = model, optimizer, max(1, every)
        self.updates = 0
        self.losses: list[tuple[int, Tensor]] = []
        self.lrs: list[float] = []
        self.grad_norms: dict[int, Tensor] = {}
        self.activations: dict[int, dict[str, Tensor]] = {}
        self.vals: dict[int, dict[str, float]] = {}
        self.ends: list[int] = []
        self._report: Report | None = None
        self._raw = loss
        self._is_over = False
        self._handles: list[Any] = []
        self._listening: list[Any] = []
        self._at_first: list[list[float]] = []

    @property
    def report(self) -> Report:
        """What the loop shows; it is judged when the block ends, and where it is interrupted (Ctrl-C, a cell stopped).

        Raises:
            UsageError: the block has not ended, an error ended it, or no loss or no update was seen in it.
        """
        if self._report is None:
            why, what_to_do = self._missing()
            raise UsageError(f"w.report: there is none: {why}", what_to_do)
        return self._report

    def loss(self, *args: Any, **kwargs: Any) -> Tensor:
        """Call the loss, and remember what it gives."""
        if isinstance(self._raw, str):
            raise UsageError("w.loss: the loss is the model's own", "Take it of what the model returns.")
        value = self._raw(*args, **kwargs)
        if not isinstance(self._raw, nn.Module):
            self._keep(self._raw, args, value)
        return value

    def epoch(self, val_loss: float | None = None, val_accuracy: float | None = None) -> None:
        """End an epoch, with what was measured on val."""
        self.ends.append(self.updates)
        known = {"loss": val_loss, "accuracy": val_accuracy}
        self.vals[len(self.ends)] = {key: float(value) for key, value in known.items() if value is not None}

    def __enter__(self) -> Watch:
        self._at_first = self._fingerprint()
        self._handles.append(self.optimizer.register_step_pre_hook(self._before))
        self._handles.append(self.optimizer.register_step_post_hook(self._after))
        if isinstance(self._raw, nn.Module):
            self._handles.append(self._raw.register_forward_hook(self._keep))
        if isinstance(self._raw, str):
            self._handles.append(self.model.register_forward_hook(self._keep_own))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handle in [*self._handles, *self._listening]:
            handle.remove()
        self._handles, self._listening, self._is_over = [], [], True
        if (kind is None or issubclass(kind, KeyboardInterrupt)) and self.losses and self.lrs:
            of_curve = judged(self.curve(), self._tables())
            self._report = Report((*judged_updates(self._updates()), *of_curve.results))

    def __repr__(self) -> str:
        return f"Watch: {self.updates:,} updates" if self._report is None else repr(self._report)

    def _repr_html_(self) -> str | None:
        return None if self._report is None else self._report._repr_html_()

    def _missing(self) -> tuple[str, str]:
        """Return why there is no report, and what to do."""
        if not self._is_over:
            return "the block has not ended", "Train within `with tuner.watch(...) as w:`, and ask after it."
        if not self.lrs:
            return "no update of this optimizer was seen", "Hand over the optimizer whose step() the loop calls."
        if not self.losses:
            how = "Call w.loss(outputs, targets) in the place of a loss that is a function."
            return "no loss was seen", f"{how} A module is called as before."
        return "an error ended the block", "Fix what was raised, then train again."

    def curve(self) -> list[dict[str, Any]]:
        """Return the rows of the curve: of each epoch, or of twenty equal parts where no epoch was ended."""
        ends = self.ends or [self.updates * part // EPOCHS for part in range(1, EPOCHS + 1)]
        values = self._values()
        rows: list[dict[str, Any]] = []
        start = 0
        for number, end in enumerate(ends, 1):
            own = [value for value, (update, _) in zip(values, self.losses, strict=True) if start <= update < end]
            norms = [float(norm) for update, norm in self.grad_norms.items() if start <= update < end]
            if own and end > start:
                row = {"step": end, "epoch": number, "split": "train", "loss": sum(own) / len(own)}
                rows.append(row | {"lr": self.lrs[end - 1]} | ({"grad_norm": norms[-1]} if norms else {}))
            if "loss" in self.vals.get(number, {}):
                rows.append({"step": end, "epoch": number, "split": "val", **self.vals[number]})
            start = end
        return rows

    def _updates(self) -> Updates:
        """Return what steps 2 and 3 are told: of the losses of one update their mean."""
        by_update: dict[int, list[float]] = {}
        for value, (update, _) in zip(self._values(), self.losses, strict=True):
            by_update.setdefault(update, []).append(value)
        losses = [sum(own) / len(own) for update, own in sorted(by_update.items()) if update < self.updates]
        settings = self.optimizer.param_groups[0]
        momentum = settings.get("momentum")
        return Updates(
            losses,
            self.lrs,
            self._fingerprint() != self._at_first,
            type(self.optimizer).__name__.lower(),
            settings.get("weight_decay"),
            float(momentum) if isinstance(momentum, (int, float)) else None,
        )

    def _values(self) -> list[float]:
        values: list[float] = torch.stack([loss.float() for _, loss in self.losses]).tolist()
        return values

    def _fingerprint(self) -> list[list[float]]:
        """Return a few values of every parameter: enough to see whether any has moved."""
        with torch.no_grad():
            return [p.detach().reshape(-1)[:: max(1, p.numel() // SAMPLED)].tolist() for p in self.model.parameters()]

    def _tables(self) -> dict[str, Any]:
        rate = float(self.lrs[0]) if self.lrs and self.lrs[0] > 0 else 1e-3
        return {"optimizer": {"name": type(self.optimizer).__name__.lower(), "lr": rate}}

    def _keep(self, module: Any, args: Any, value: Any) -> None:
        if isinstance(value, Tensor) and value.ndim == 0 and value.requires_grad:
            self.losses.append((self.updates, value.detach()))

    def _keep_own(self, module: Any, args: Any, outputs: Any) -> None:
        with contextlib.suppress(NotImplementedError):  # it was called without targets
            self._keep(module, args, loss_of_model(outputs, torch.empty(0)))

    def _before(self, *_: Any) -> None:
        if self.updates % self.every:
            return
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if gradients:
            self.grad_norms[self.updates] = nn.utils.get_total_norm(gradients).detach()

    def _after(self, *_: Any) -> None:
        self.lrs.append(float(self.optimizer.param_groups[0]["lr"]))
        self.updates += 1
        for handle in self._listening:
            handle.remove()
        self._listening = []
        if self.updates % self.every == 0:
            seen = self.activations.setdefault(self.updates, {})
            for name, module in self.model.named_modules():
                if not list(module.children()):
                    self._listening.append(module.register_forward_hook(_spread_into(seen, name)))


def _spread_into(seen: dict[str, Tensor], name: str) -> Callable[..., None]:
    """Return a hook that keeps the spread of a layer's outputs."""

    def hook(module: nn.Module, args: Any, outputs: Any) -> None:
        if isinstance(outputs, Tensor) and outputs.is_floating_point() and name not in seen:
            values = outputs.detach().flatten()
            seen[name] = values[:: max(1, len(values) // SPREAD_OVER)].float().std()

    return hook


def watch(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[..., Tensor] | str, every: int = EVERY
) -> Watch:
    """Watch a training loop: `with tuner.watch(model, optimizer, loss) as w:`; `print(w.report)` afterwards.

    The loss and the rate of every update are kept, gradient norms and the spread of activations every `every` updates.
    Inside, call `w.loss` where the loss is a function (nothing where the model returns it: loss="model"), and
    `w.epoch(val_loss, val_accuracy)` at the end of each epoch.
    """
    return Watch(model, optimizer, loss, every)
