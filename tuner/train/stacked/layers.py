"""The layers of a stack: each takes what the same layer of every trial takes, in one call."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ELEMENTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.ELU, nn.SELU, nn.CELU, nn.Softplus,
    nn.Hardtanh, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid, nn.Softsign, nn.Identity,
)  # fmt: skip
SIMPLE = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Hardtanh, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.Softsign, nn.Identity)

SMALL = 400  # multiplications of a pair, below which torch has a loop of its own (ATen, bmm_out_or_baddbmm_)
ALIGNED = 16  # float32 values: 64 bytes, as memory of torch's own begins (MKL, conditional numerical reproducibility)
WHOLE = 64  # values that a kernel takes in one turn of its loop; those left over may go another way than the others


class Unstackable(Exception):
    """These trials are to be trained each by itself; the message says why."""


@dataclass
class Linear:
    """The fully connected layers of all trials. Shapes: weight (K, out, in), bias (K, out) or None; so the gradients.

    A product of the batch is, matrix by matrix, the product that a layer by itself computes (`product`).
    """

    weight: Tensor
    bias: Tensor | None
    weight_grad: Tensor
    bias_grad: Tensor | None

    def __call__(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != 3 or inputs.dtype != torch.float32:
            raise Unstackable(f"a layer takes examples of shape {tuple(inputs.shape[2:])}, {inputs.dtype}")
        return _Product.apply(inputs, self.weight, self)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs (K, N, out) of inputs (K, N, in)."""
        bias = None if self.bias is None else self.bias.detach().unsqueeze(1)
        return product(inputs, self.weight.detach().transpose(1, 2), bias)

    def backward(self, inputs: Tensor, grad: Tensor, wanted: bool) -> Tensor | None:
        """Write the gradients of the weights; return that of the inputs where it is `wanted`."""
        product(grad.transpose(1, 2), inputs, out=self.weight_grad)
        if self.bias_grad is not None:
            torch.sum(grad, 1, out=self.bias_grad)
        return product(grad, self.weight.detach()) if wanted else None


def product(a: Tensor, b: Tensor, added: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Return the products of matrices (K, N, M) and (K, M, L), to which (K, 1, L) may be `added`.

    Matrix by matrix they are those of two matrices that lie by themselves, to the last bit. Very small ones, vectors
    and those that do not begin where a processor likes to read are multiplied in another order of sums by one call for
    all of them: they are multiplied pair by pair.
    """
    if _sums_alike(a, b):
        return torch.bmm(a, b, out=out) if added is None else torch.baddbmm(added, a, b)
    pairs = zip(_apart(a), _apart(b), strict=True)
    if added is None:
        return torch.stack([torch.mm(*pair) for pair in pairs], out=out)
    return torch.stack([torch.addmm(one, *pair) for one, pair in zip(added, pairs, strict=True)])


def _sums_alike(a: Tensor, b: Tensor) -> bool:
    rows, common, columns = a.shape[1], a.shape[2], b.shape[2]
    if min(rows, common, columns) == 1 or rows * common * columns < SMALL:
        return False
    return rows * columns % ALIGNED == 0 and all(
        part.stride(0) % ALIGNED == 0 and part.data_ptr() % (4 * ALIGNED) == 0 for part in (a, b)
    )


def _apart(matrices: Tensor) -> Iterator[Tensor]:
    """Give each matrix in memory of its own, in the order of memory that it has."""
    return (matrix.clone(memory_format=torch.preserve_format) for matrix in matrices.unbind())


@dataclass
class Elementwise:
    """An activation of all trials. Which values of an array are left over at its end depends on its length.

    `follows_linear`: nobody else needs what it takes.
    """

    layer: nn.Module
    follows_linear: bool = False

    def __call__(self, inputs: Tensor) -> Tensor:
        if self.follows_linear and type(self.layer) is nn.ReLU:
            return torch.relu_(inputs)
        if isinstance(self.layer, SIMPLE) or inputs[0].numel() % WHOLE == 0:
            return self.layer(inputs)
        return torch.stack([self.layer(part) for part in inputs.unbind()])


class _Product(torch.autograd.Function):
    """A stacked linear layer, whose gradients go where the trials' parameters look for them."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, layer: Linear) -> Tensor:
        ctx.layer, ctx.inputs = layer, inputs.detach()
        return layer.forward(ctx.inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        return ctx.layer.backward(ctx.inputs, grads[0].contiguous(), ctx.needs_input_grad[0]), None, None


def go_back(outputs: Tensor, grads: Tensor) -> None:
    """Go backward from outputs by these gradients; `outputs.backward(grads)` would load sympy, in 0.35 s of CPU."""
    _Start.apply(outputs, grads).backward()


class _Start(torch.autograd.Function):
    """A scalar whose gradient with respect to the outputs is given."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, grads: Tensor) -> Tensor:
        ctx.grads = grads
        return outputs.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.grads, None


def chain_of(model: nn.Module) -> list[nn.Module]:
    """Return the layers that a model calls one after the other.

    Raises:
        Unstackable: a layer has no stacked form; the model is no chain of layers.
    """
    found = list(_chain(model))
    parameters = {id(item) for layer in found for item in layer.parameters()}
    if parameters != {id(item) for item in model.parameters()} or any(True for _ in model.buffers()):
        raise Unstackable("the model holds more than its chain of layers")
    if len(list(model.parameters())) != sum(len(list(layer.parameters())) for layer in found):
        raise Unstackable("layers of the model share weights")
    if not all(item.requires_grad and item.dtype == torch.float32 for item in model.parameters()):
        raise Unstackable("weights are frozen, or not float32")
    if not parameters:
        raise Unstackable("the model has no weights")
    return found


def _chain(model: nn.Module) -> Iterator[nn.Module]:
    if _is_hooked(model):
        raise Unstackable(f"a hook is registered on {type(model).__name__}")
    if type(model) is nn.Sequential:
        for layer in model:
            yield from _chain(layer)
    elif type(model) in (nn.Linear, *ELEMENTWISE) or _flattens_examples(model):
        yield model
    elif type(model) is nn.Dropout and model.p == 0:
        yield nn.Identity()
    else:
        raise Unstackable(f"{type(model).__name__} has no stacked form")


def _flattens_examples(layer: nn.Module) -> bool:
    return type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)


def _is_hooked(module: nn.Module) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)


def stacked(models: Sequence[nn.Module]) -> list[Any]:
    """Return the layers of equal models, stacked; their parameters see their part of the stack from here on.

    What the models' parameters held before is kept; a parameter's `grad` is what the stack writes.

    Raises:
        Unstackable: see `chain_of`; "models of different shapes".
    """
    chains = [chain_of(model) for model in models]
    if any(list(map(_form, chain)) != list(map(_form, chains[0])) for chain in chains):
        raise Unstackable("models of different shapes")
    found = [_stacked_layer(layers) for layers in zip(*chains, strict=True)]
    for before, layer in itertools.pairwise(found):
        if isinstance(layer, Elementwise):
            layer.follows_linear = isinstance(before, Linear)
    return found


def _form(layer: nn.Module) -> tuple[str, ...]:
    return (repr(layer), *(str(tuple(item.shape)) for item in layer.parameters()))


def _stacked_layer(layers: Sequence[nn.Module]) -> Any:
    first = layers[0]
    if isinstance(first, nn.Flatten):
        return nn.Flatten(2)
    if not isinstance(first, nn.Linear):
        return Elementwise(first)
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    weight, weight_grad = _joined([layer.weight for layer in linear])
    biases = [layer.bias for layer in linear if layer.bias is not None]
    bias, bias_grad = _joined(biases) if biases else (None, None)
    return Linear(weight, bias, weight_grad, bias_grad)


def _joined(parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the values of parameters in one array, and one for their gradients, of which they are views from now."""
    values, grads = (_array(len(parameters), parameters[0].shape) for _ in range(2))
    for item, value, grad in zip(parameters, values.unbind(), grads.unbind(), strict=True):
        item.data, item.grad = value.copy_(item.detach()), grad
    return values.requires_grad_(), grads


def _array(count: int, shape: torch.Size) -> Tensor:
    """Return zeros (count, *shape), of which each part begins where memory of its own would."""
    size = shape.numel()
    room = -(-size // ALIGNED) * ALIGNED
    return torch.zeros(count, room)[:, :size].unflatten(1, shape)
