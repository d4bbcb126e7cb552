"""A GPU that is not there: tensors that say they are on cuda:0, hold their values in memory, and refuse to meet others.

What only fails where there is a GPU (an index left on the CPU, numbers asked of a tensor that is not there) fails here
as well, with torch's own words. Speed, precision and memory of a GPU are not imitated.
"""

import contextlib
import re
from unittest import mock

import torch
import torch.distributed.tensor  # which annotates with torch.Generator
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

from tuner.train import checkpoint

DEVICE = torch.device("cuda:0")
INDEXING = {"index.Tensor", "index_put_.default", "index_put.default", "_index_put_impl_.default"}
WITH_CPU = {"copy_.default", "_pack_padded_sequence.default"}
TOGETHER = {"cat", "stack", "index_select", "gather", "scatter", "scatter_add", "index_add"}
# of several operations, which make tensors of their own where these are held
WHOLE = {"one_hot", "quantile", "nanquantile", "pad_sequence", "interpolate"}
# what a kernel asserts of its values while the CPU raises at once; no other call works in that process from then on
ASSERTS = {"nll_loss_forward", "nll_loss2d_forward", "embedding", "index", "index_put", "_index_put_impl", "gather"}
ASSERTS |= {"scatter", "scatter_add", "index_select", "index_add", "binary_cross_entropy", "multi_margin_loss"}
ASSERTS |= {"multilabel_margin_loss_forward"}
ASSERTED = re.compile("out of (bounds|range)|between 0 and 1|[Cc]lass values must be|target.*range", re.DOTALL)
TOTAL = 80 << 30


class OnGpu(torch.Tensor):
    """A tensor that says it is on the GPU. `held`: its values, on the CPU."""

    @staticmethod
    def __new__(cls, held):
        assert type(held) is torch.Tensor, type(held)
        options = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.size(), **options, layout=held.layout)
        made.held = held
        return made

    @property
    def device(self):
        return DEVICE

    @property
    def is_cuda(self):
        return True

    @property
    def is_cpu(self):
        return False

    def __repr__(self):
        return f"OnGpu({self.held!r})"

    def __tensor_flatten__(self):
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner, context, size, stride):
        return OnGpu(inner["held"])

    def __reduce_ex__(self, protocol):
        return self.held.__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        made = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            made = torch.nn.Parameter(made, self.requires_grad)
        memo[id(self)] = made
        return made

    def numpy(self, **kwargs):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it to host memory")

    def __array__(self, *args, **kwargs):
        return self.numpy()

    def tolist(self):
        return self.held.tolist()

    def data_ptr(self):
        return self.held.data_ptr()

    def untyped_storage(self):
        return self.held.untyped_storage()

    poisoned = False

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        name = str(function).removeprefix("aten.")
        if OnGpu.poisoned:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered (an earlier call's)")
        try:
            return cls._dispatched(function, name, args, kwargs or {})
        except (IndexError, RuntimeError) as error:
            if name.partition(".")[0].rstrip("_") in ASSERTS and ASSERTED.search(str(error)):
                OnGpu.poisoned = True
                raise torch.AcceleratorError("CUDA error: device-side assert triggered") from error
            raise

    @classmethod
    def _dispatched(cls, function, name, args, kwargs):
        tensors = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, torch.Tensor)]
        if name == "_to_copy.default" and kwargs.get("device") is not None:
            with_cpu = {**kwargs, "device": torch.device("cpu")}
            found = function(*tree_map(_inner, args), **with_cpu)
            return found if torch.device(kwargs["device"]).type == "cpu" else OnGpu(found)
        if name in INDEXING:
            _index_on_one_device(*args[:3])
        elif name not in WITH_CPU and _on_two_devices(name, tensors):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found two devices, cpu and cuda:0! ({name})"
            )
        if "device" in kwargs and kwargs["device"] is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        found = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        on_host = isinstance(args[0], torch.Tensor) and type(args[0]) is torch.Tensor and name == "copy_.default"
        if on_host:
            return args[0]
        return return_and_correct_aliasing(function, args, kwargs, tree_map(_outer, found))


def _on_two_devices(name, tensors):
    """A single number of the CPU may meet tensors of the GPU, but not take their sum, nor be joined with them."""
    overload = name.partition(".")[0]
    taking = overload.endswith("_") and type(tensors[0]) is torch.Tensor
    lone = not (taking or overload.rstrip("_") in TOGETHER)
    return any(type(item) is torch.Tensor and not (lone and item.dim() == 0) for item in tensors)


def _index_on_one_device(values, indices, put=None):
    """Indices may be on the CPU, or where the values are; what is put there is with them, or one number."""
    here = type(values)
    if any(isinstance(item, torch.Tensor) and type(item) not in (here, torch.Tensor) for item in indices):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    if put is not None and type(put) is not here and put.numel() > 1:
        raise RuntimeError("expected all tensors to be on the same device: what is put is not where the values are")


class OfGpu(torch._C.Generator):
    """A generator of the GPU's."""

    @property
    def device(self):
        return DEVICE


class _OfEither(type):
    def __call__(cls, device="cpu"):
        return OfGpu("cpu") if _is_gpu(device) else torch._C.Generator(device)

    def __instancecheck__(cls, value):
        return isinstance(value, torch._C.Generator)


class Generators(metaclass=_OfEither):
    """Stands in for torch.Generator."""


def _inner(value):
    return value.held if isinstance(value, OnGpu) else value


def _outer(value):
    return OnGpu(value) if type(value) is torch.Tensor else value


def _is_gpu(device):
    return device is not None and not isinstance(device, torch.Tensor) and torch.device(device).type == "cuda"


def _asked(args, kwargs):
    """The device that `Tensor.to` is asked for, None where it is not."""
    if "device" in kwargs:
        return kwargs["device"]
    first = args[1] if len(args) > 1 else None
    if isinstance(first, torch.Tensor):
        return first.device
    return first if isinstance(first, (str, torch.device)) else None


class _Calls(TorchFunctionMode):
    """Sees every call of torch's functions: makes tensors on the pretended GPU, moves them there and back."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        if name in ("to", "cuda", "cpu") and isinstance(args[0], torch.Tensor):
            device = _asked(args, kwargs) if name == "to" else name
            if device is not None and (_is_gpu(device) or isinstance(args[0], OnGpu)):
                return self._moved(args, kwargs, _is_gpu(device))
        if name in WHOLE:
            try:
                with torch._C.DisableTorchFunction():
                    found = function(*tree_map(_inner, args), **kwargs)
            except RuntimeError as error:
                if isinstance(args[0], OnGpu) and ASSERTED.search(str(error)):
                    OnGpu.poisoned = True
                    raise torch.AcceleratorError("CUDA error: device-side assert triggered") from error
                raise
            return tree_map(_outer, found) if isinstance(args[0], OnGpu) else found
        generator = kwargs.get("generator")
        if generator is None:
            generator = next((item for item in args if isinstance(item, torch._C.Generator)), None)
        with_gpu = _is_gpu(kwargs.get("device")) or any(isinstance(item, OnGpu) for item in tree_flatten(args)[0])
        if generator is not None and with_gpu != isinstance(generator, OfGpu):
            wanted, found = ("cuda", "cpu") if with_gpu else ("cpu", "cuda")
            raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{found}'")
        if _is_gpu(kwargs.get("device")) and not any(isinstance(item, torch.Tensor) for item in args):
            grad = kwargs.pop("requires_grad", False)
            kwargs["device"] = "cpu"
            found = OnGpu(function(*args, **kwargs))
            return found.requires_grad_(grad)
        if name == "as_tensor" and isinstance(args[0], torch.Tensor) and kwargs.get("device") is not None:
            return args[0].to(kwargs["device"])
        if _is_gpu(kwargs.get("device")) and name.endswith("_like"):
            kwargs["device"] = "cpu"
            with torch._C.DisableTorchFunction():
                return OnGpu(function(*tree_map(_inner, args), **kwargs))
        return function(*args, **kwargs)

    @staticmethod
    def _moved(args, kwargs, to_gpu):
        value, dtype = args[0], kwargs.get("dtype")
        dtype = dtype or next((item for item in args[1:] if isinstance(item, torch.dtype)), None)
        if len(args) > 1 and isinstance(args[1], torch.Tensor):
            dtype = args[1].dtype
        value = value if dtype is None else value.to(dtype)
        layout = kwargs.get("memory_format")
        if layout is not None:
            value = value.contiguous(memory_format=layout)
        return value if isinstance(value, OnGpu) == to_gpu else _Move.apply(value)


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(context, value):
        return _across(value)

    @staticmethod
    def backward(context, grad):
        return _across(grad)


def _across(value):
    return value.held.clone() if isinstance(value, OnGpu) else OnGpu(value.detach().clone())


@contextlib.contextmanager
def pretended_gpu():
    """Have one CUDA device within the block, for everything that runs in this process."""
    load = torch.load
    OnGpu.poisoned = False

    def loaded(file, map_location=None, **kwargs):
        found = load(file, map_location="cpu", **kwargs)
        return tree_map(_outer, found) if _is_gpu(map_location) else found

    cuda = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "mem_get_info": lambda device=None: (TOTAL, TOTAL),
        "get_device_name": lambda device=None: "pretended",
        "get_device_properties": lambda device=None: mock.Mock(name="pretended", uuid="0", total_memory=TOTAL),
        "is_bf16_supported": lambda including_emulation=True: True,
        "empty_cache": lambda: None,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        "reset_peak_memory_stats": lambda device=None: None,
        "max_memory_allocated": lambda device=None: 1 << 20,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
        "get_rng_state_all": lambda: [],
        "set_rng_state_all": lambda states: None,
    }
    with contextlib.ExitStack() as stack:
        for name, function in cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, function))
        plain = checkpoint.is_plain
        stack.enter_context(mock.patch.object(checkpoint, "is_plain", lambda value: plain(tree_map(_inner, value))))
        stream = mock.Mock(is_capturing=lambda: False)
        stack.enter_context(mock.patch.object(torch.accelerator, "current_stream", lambda device=None: stream))
        stack.enter_context(mock.patch.object(torch.backends.cudnn, "is_acceptable", lambda tensor: False))
        stack.enter_context(mock.patch.object(torch, "Generator", Generators))
        stack.enter_context(mock.patch.object(torch, "load", loaded))
        stack.enter_context(_Calls())
        yield
