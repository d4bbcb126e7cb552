"""Damages a finished run, as disks and strangers do; its hashes are made to fit, so that none gives it away."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

STRANGE = [None, True, -1, 10**30, 0.5, "", "../../x", "\x1b[2J", "x" * 10**5, [], {}, [[]], {"a": {"a": 1}}]
RAW = [b"", b"{", b"[]", b"null", b"\0" * 50, b"[" * 100_000, b"\xff\xfe", b'{"a": 1e999}', b"[" * 60 + b"]" * 60]


def damage(run: Path, rng: random.Random) -> str:
    """Change one artifact of a run, and say what was changed."""
    path = rng.choice(sorted(path for path in run.rglob("*.json*") if path.is_file()))
    if rng.random() < 0.2:
        path.write_bytes(rng.choice(RAW))
        return f"{path.name}: raw bytes"
    if rng.random() < 0.1:
        path.unlink()
        path.symlink_to(rng.choice(["/dev/zero", "/etc/passwd", path.name, ".."]))
        return f"{path.name}: a link"
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    number = rng.randrange(len(lines))
    value = json.loads(lines[number])
    place = _change(value, rng)
    lines[number] = json.dumps(value)
    path.write_text("\n".join(lines) + "\n")
    _sign(path)
    return f"{path.parent.name}/{path.name}: {place}"


def _change(value: Any, rng: random.Random) -> str:
    """Delete, add or replace one entry at a random depth."""
    node, way = value, []
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return "nothing"
        key = rng.choice(keys)
        way.append(str(key))
        inner = node[key]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.75:
            node = inner
            continue
        if rng.random() < 0.5:
            node.pop(key)
        else:
            node[key] = rng.choice(STRANGE)
        return ".".join(way)


def _sign(path: Path) -> None:
    """Put the new hash of a file into its stage's manifest, where that can be read."""
    manifest = path.parent / "manifest.json"
    if path == manifest or not manifest.is_file():
        return
    value = json.loads(manifest.read_text())
    if path.name in value["outputs"]:
        value["outputs"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(value))
