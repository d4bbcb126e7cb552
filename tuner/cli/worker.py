"""`tuner worker DIR`: work on the trials that a command on another machine leaves in a shared folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.exit_codes import exit_codes
from tuner.core.errors import UsageError


def worker(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the folder of --engine folder --address DIR")],
    workers: Annotated[int | None, typer.Option(help="trials at once (default: one per core, or per GPU)")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, cuda:1, or several: cuda:0,cuda:2")] = "auto",
    trials_per_device: Annotated[int | None, typer.Option(help="trials at once on each GPU (default: one)")] = None,
    wait: Annotated[float, typer.Option(help="seconds to wait for a command, or for one that was killed")] = 600.0,
    linger: Annotated[float, typer.Option(help="seconds to wait for the next command after one has ended")] = 60.0,
    share_gpus: Annotated[
        bool, typer.Option("--share-gpus", help="use GPUs that another worker here has; else each has its own")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="say nothing of each trial")] = False,
) -> None:
    """Work on the trials that commands leave in a shared folder, until no command is left (Slurm, NFS)."""
    with exit_codes(False, False, []):
        from tuner.core.inventory import parse_device
        from tuner.workflow.working import WorkerOptions, work

        parse_device(device)

        for name, value in (("workers", workers), ("trials-per-device", trials_per_device)):
            if value is not None and value < 1:
                raise UsageError(f"--{name}: must be 1 or more (got {value})", "Leave it out for the default.")
        for name, seconds in (("wait", wait), ("linger", linger)):
            if not seconds >= 0:
                raise UsageError(f"--{name}: must be 0 seconds or more (got {seconds:g})", "60 is a minute.")

        def say(text: str) -> None:
            if not quiet:
                print(f"worker: {text}", file=sys.stderr, flush=True)

        work(folder, WorkerOptions(workers, device, trials_per_device, wait, linger, share_gpus), say)
