"""Random streams: every random draw of a run derives from the run's seed and the name of what is drawn."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """Return the seed (63 bits) of the stream that `names` name, e.g. `derive_seed(0, "order", 3)`."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
