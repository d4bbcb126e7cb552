"""What can run at once, and on which device each: planned from what the machine has and what a trial needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tuner.core.errors import EnvironmentProblem
from tuner.core.inventory import CONTEXT_BYTES, FREE_SHARE, Gpu, Inventory, absent, limit_bytes, parse_device

WORKER_BYTES = 1_500_000_000  # of memory: torch, a small net and its batches; measured 0.5-0.7 GB for torch alone
SLACK = 1.2  # an allocator holds more than it has handed out, and configurations differ


@dataclass(frozen=True)
class Wish:
    """What the user asks for: `--device`, `--workers`, `--trials-per-device` (None: as many as fit), and what the
    recipe gives to each trial: so many devices, and CPU threads for each of them. `stack`: `--stack`, how many small
    trials are trained as one at most (None: as measured).
    """

    device: str = "auto"
    workers: int | None = None
    per_device: int | None = None
    threads: int = 1
    devices: int = 1
    stack: int | None = None


@dataclass(frozen=True)
class Slot:
    """A place for one trial at a time. `gpu`: those that its processes see, as CUDA_VISIBLE_DEVICES names them."""

    index: int
    device: str = "cpu"
    gpu: str | None = None

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment variables of a trial here; they are set before torch touches a GPU."""
        return {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}


@dataclass(frozen=True)
class Slots:
    """All places. `device`: the kind that they have in common, which is part of every trial's id."""

    device: str
    places: tuple[Slot, ...]

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.places)

    def beside(self, slot: Slot) -> bool:
        """Return whether others may run on the same device."""
        return sum(other.gpu == slot.gpu for other in self.places) > 1


def alone(slots: Slots) -> Slots:
    """Return one slot per device."""
    return Slots(slots.device, tuple({slot.gpu: slot for slot in reversed(slots.places)}.values())[::-1])


class Leases:
    """Who has which slot. A trial gets a free one on the device with the fewest trials."""

    def __init__(self, slots: Slots) -> None:
        self._free = list(slots)
        self._taken: Counter[str | None] = Counter()

    def take(self) -> Slot | None:
        """Return a free slot, or None when all are taken."""
        if not self._free:
            return None
        slot = min(self._free, key=lambda slot: (self._taken[slot.gpu], slot.index))
        self._free.remove(slot)
        self._taken[slot.gpu] += 1
        return slot

    def give_back(self, slot: Slot) -> None:
        self._free.append(slot)
        self._taken[slot.gpu] -= 1


def memory_of(slot: Slot, inventory: Inventory) -> int:
    """Return the memory (bytes) that a trial may have in a slot, had it the device to itself."""
    names = () if slot.gpu is None else slot.gpu.split(",")
    own = [gpu for gpu in inventory.gpus if gpu.name in names]
    return min((limit_bytes(replace(inventory, gpus=(gpu,)), "cuda") for gpu in own), default=inventory.memory_bytes)


def plan_slots(inventory: Inventory, wish: Wish, trial_bytes: int | None = None) -> Slots:
    """Return the slots of a machine. `trial_bytes`: the peak memory of a trial on its device; None: not known yet.

    CPU: one per core, or per as many as a trial has threads, as long as memory holds them. CUDA: every device, one
    trial each until the peak is known, then as many as the free memory holds, and cores feed. MPS: one.
    `--workers` and `--trials-per-device` are taken at their word. A trial on several devices has a fixed group of
    GPUs, or on a CPU as many processes.

    Raises:
        UsageError: see `parse_device`.
        EnvironmentProblem: "there is no such device here", fewer devices than a trial takes.
    """
    kind, indices = parse_device(wish.device)
    if kind == "auto":
        kind = "cuda" if inventory.gpus else "cpu"
    if kind == "cuda":
        return Slots("cuda", tuple(_on_gpus(_chosen(inventory, indices, wish), inventory, wish, trial_bytes)))
    if kind == "mps":
        if not inventory.mps:
            raise absent(wish.device, inventory)
        if wish.devices > 1:
            raise _too_few(wish, 1, "Apple GPU")
        return Slots("mps", tuple(Slot(index, "mps") for index in range(wish.workers or wish.per_device or 1)))
    need = max(WORKER_BYTES, round(SLACK * trial_bytes)) if trial_bytes else WORKER_BYTES
    cores, memory = max(1, wish.threads) * wish.devices, need * wish.devices
    fit = max(1, min(inventory.cores // cores, inventory.memory_bytes // memory))
    return Slots("cpu", tuple(Slot(index) for index in range(wish.workers or fit)))


def _chosen(inventory: Inventory, indices: tuple[int, ...], wish: Wish) -> list[Gpu]:
    """Return the devices that trials run on; of trials on several devices, each group as if it were one."""
    if not (gpus := chosen_gpus(inventory, indices, wish.device)):
        raise absent(wish.device, inventory)
    if len(gpus) < wish.devices:
        raise _too_few(wish, len(gpus), "CUDA device")
    count = wish.devices
    return [_as_one(gpus[start : start + count]) for start in range(0, len(gpus) - count + 1, count)]


def chosen_gpus(inventory: Inventory, indices: tuple[int, ...], device: str) -> list[Gpu]:
    """Return the GPUs that `--device` names by their indices, or all.

    Raises:
        EnvironmentProblem: "there is no such device here".
    """
    if any(index >= len(inventory.gpus) for index in indices):
        raise absent(device, inventory)
    return [inventory.gpus[index] for index in indices] if indices else list(inventory.gpus)


def _as_one(gpus: list[Gpu]) -> Gpu:
    """Return a group of devices under their joined names, with the memory of the smallest."""
    name = ",".join(gpu.name for gpu in gpus)
    return Gpu(name, gpus[0].model, min(gpu.total_bytes for gpu in gpus), min(gpu.free_bytes for gpu in gpus))


def _too_few(wish: Wish, found: int, what: str) -> EnvironmentProblem:
    text = f"train.devices_per_trial = {wish.devices}: there {'is' if found == 1 else 'are'} {found} {what}"
    return EnvironmentProblem(f"{text}{'' if found == 1 else 's'} here", "Lower it, or run with --device cpu.")


def _on_gpus(gpus: list[Gpu], inventory: Inventory, wish: Wish, trial_bytes: int | None) -> Iterator[Slot]:
    """Deal trials out to the devices in turn, so that the first slots are on different ones."""
    fed = max(1, inventory.cores // (len(gpus) * max(1, wish.threads) * wish.devices))
    room = {gpu.name: wish.per_device or min(fed, _fit(gpu, trial_bytes)) for gpu in gpus}
    if wish.workers is not None and wish.per_device is None:
        room = dict.fromkeys(room, wish.workers)
    order = [gpu for turn in range(max(room.values())) for gpu in gpus if turn < room[gpu.name]]
    for index, gpu in enumerate(order[: wish.workers]):
        yield Slot(index, "cuda", gpu.name)


def _fit(gpu: Gpu, trial_bytes: int | None) -> int:
    """Return how many trials a device's free memory holds, at least one."""
    if trial_bytes is None:
        return 1
    return max(1, int(FREE_SHARE * gpu.free_bytes // (SLACK * trial_bytes + CONTEXT_BYTES)))
