"""What is finished is kept, a JSON line each, so that a comparison of an hour can be made in pieces."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tuner.core.store import drop_torn_line


class Lines:
    """Finished pieces of a comparison by what they are of: {"part", "side", "seed", sizes ...}."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._found: dict[str, Any] = {}
        drop_torn_line(path)  # killed while it was written: that piece is done again
        for line in path.read_text().splitlines() if path.exists() else ():
            entry = json.loads(line)
            self._found[_text(entry["of"])] = entry["found"]

    def get(self, of: Mapping[str, Any]) -> Any:
        """Return what a piece gave, or None when it is not finished."""
        return self._found.get(_text(of))

    def keep(self, of: Mapping[str, Any], found: Any) -> Any:
        """Write a finished piece down; return it as it will be read back."""
        line = json.dumps({"of": dict(of), "found": found})
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a") as file:
                file.write(line + "\n")
            self._found[_text(of)] = json.loads(line)["found"]
        return self._found[_text(of)]

    def once(self, of: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """Return what a piece gave, made now if it is not finished."""
        found = self.get(of)
        return self.keep(of, make()) if found is None else found


def _text(of: Mapping[str, Any]) -> str:
    return json.dumps(of, sort_keys=True)
