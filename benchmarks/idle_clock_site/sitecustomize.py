"""Put on the path by `benchmarks.idle_clock`: Python's clocks read the one that it keeps."""

import mmap
import os
import struct
import time

if path := os.environ.get("IDLE_CLOCK"):
    form = struct.Struct("<dddd")
    with open(path, "rb") as file:
        shared = mmap.mmap(file.fileno(), form.size, prot=mmap.PROT_READ)
    real, latest = time.monotonic, [0.0]

    def now() -> float:
        """Return the clock's seconds, carried on at its last speed since it was looked at; it never goes back."""
        clock, at, speed, _ = form.unpack(shared[: form.size])
        latest[0] = max(latest[0], clock + speed * min(max(0.0, real() - at), 0.2))
        return latest[0]

    def time_of_day() -> float:
        return form.unpack(shared[: form.size])[3] + now()

    time.monotonic = time.perf_counter = now
    time.time = time_of_day
