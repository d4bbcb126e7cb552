"""What a command, or `tuner.run`, is told beside the recipe; what contradicts itself is refused before it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.core.errors import UsageError, did_you_mean
from tuner.core.inventory import parse_device
from tuner.recipe.file import overrides_of

ENGINES = ("processes", "serial", "ray", "folder")
GIVEN = (  # names of options that a command and `tuner.run` take as they are
    *("run_dir", "workers", "engine", "address", "device", "trials_per_device", "stack", "deadline", "seed"),
    *("force", "fresh", "allow_stale"),
)
ELSEWHERE = ("ray", "folder")  # engines whose trials run on other machines


@dataclass(frozen=True)
class Options:
    """What the command line says beside the recipe. `flags`: {stage: settings given as options}.

    `assignments`: the texts of `--set`, key=value; `seed`: in the place of the recipe's.
    `engine`: what runs trials (`ENGINES`); `address`: of the Ray cluster (None: one on this
    machine), or the folder that workers share.
    `device`: auto, a kind, or a list of CUDA devices; `trials_per_device`: None: as many as its memory holds.
    `stack`: how many small trials are trained as one at most (None: as measured).
    `deadline`: how many seconds a trial may take (None: by what finished trials took).
    `log`: experiment trackers that hear of the trials too.
    """

    run_dir: Path | None = None
    workers: int | None = None
    engine: str = "processes"
    address: str | None = None
    device: str = "auto"
    trials_per_device: int | None = None
    stack: int | None = None
    deadline: float | None = None
    seed: int | None = None
    assignments: Sequence[str] = ()
    log: Sequence[str] = ()
    force: bool = False
    fresh: bool = False
    allow_stale: bool = False
    command: str = "tuner"
    flags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def overrides(self) -> dict[str, Any]:
        """Return {dotted key: value} of what `--set` and `--seed` override."""
        return overrides_of(self.assignments, self.seed)

    @property
    def in_this_process(self) -> bool:
        """Whether trials run in the command's own process."""
        return self.workers == 0 or self.engine == "serial"

    @property
    def repeated(self) -> list[str]:
        """Return the options without which the next command would be about another run, or be refused."""
        words = [word for text in self.assignments for word in ("--set", text)]
        words += ["--run-dir", str(self.run_dir)] if self.run_dir is not None else []
        words += ["--seed", str(self.seed)] if self.seed is not None else []
        return words + (["--device", self.device] if self.device != "auto" else [])

    def checked(self) -> Options:
        """Return the options.

        Raises:
            UsageError: one is out of its range, or would be ignored beside another.
        """
        parse_device(self.device)
        if self.engine not in ENGINES:
            close = did_you_mean(self.engine, ENGINES)
            raise UsageError(f"--engine: unknown engine {self.engine!r}{close}", f"One of: {', '.join(ENGINES)}.")
        for wrong, message, hint in self._problems():
            if wrong:
                raise UsageError(message, hint)
        return self

    def _problems(self) -> Iterator[tuple[bool, str, str]]:
        """Yield (whether it is so, what is wrong, what to do) of all that can be wrong with numbers and pairs."""
        yield from self._out_of_range()
        for given in self.flags.values():
            both = "--budget: plans how many configurations there is room for, and --trials says how many"
            yield {"budget", "trials"} <= set(given), both, "Leave one of them out."
        address, engine = self.address, self.engine
        lacks = "--engine folder: --address is missing: the folder that workers share"
        yield engine == "folder" and not address, lacks, "They run `tuner worker DIR`."
        if engine not in ELSEWHERE:
            nowhere = "--address: is of a Ray cluster or a shared folder"
            yield address is not None, nowhere, "Add --engine ray or folder, or leave it out."
        if engine in ELSEWHERE:
            there = f"--workers 0: runs trials in this process, --engine {engine} elsewhere"
            yield self.workers == 0, there, "Leave one of them out."
        if engine == "serial":
            one = f"--workers {self.workers}: --engine serial runs one trial at a time"
            yield (self.workers or 1) > 1, one, "Leave one of them out."
        stacks = "--stack: trials are stacked by --engine processes alone"
        apart = engine != "processes" or self.in_this_process
        yield (self.stack or 1) > 1 and apart, stacks, "Leave one of them out."
        if self.in_this_process:
            here = "trials run one after the other in this process (--workers 0, --engine serial)"
            ends = f"--deadline: {here}, where nothing ends one"
            yield self.deadline is not None, ends, "Leave it out, or give --workers 1."
            yield (self.trials_per_device or 1) > 1, f"--trials-per-device: {here}", "Leave one of them out."
        if self.device == "cpu":
            of_gpus = "--trials-per-device: is of GPUs, and --device cpu takes none"
            yield self.trials_per_device is not None, of_gpus, "--workers says how many run at once."

    def _out_of_range(self) -> Iterator[tuple[bool, str, str]]:
        seconds, workers, each, stack = self.deadline, self.workers, self.trials_per_device, self.stack
        if seconds is not None:
            yield not seconds > 0, f"--deadline: must be more than 0 seconds (got {seconds:g})", "60 is a minute."
        if workers is not None:
            yield workers < 0, f"--workers: must be 0 or more (got {workers})", "0 runs trials one by one."
        if each is not None:
            most = "Leave it out: then as many run as memory holds."
            yield each < 1, f"--trials-per-device: must be 1 or more (got {each})", most
        if stack is not None:
            yield stack < 1, f"--stack: must be 1 or more (got {stack})", "1 trains each trial by itself."
