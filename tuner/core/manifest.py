"""What a finished stage was made from, and whether that still holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.core.errors import InputError
from tuner.core.formatting import clipped, shown
from tuner.core.safe_files import kind_problem
from tuner.core.store import StageDir, read_json, sha256
from tuner.core.trial import digest

TABLES = {name: dict for name in ("tables", "settings", "stage_table", "user_files", "inputs", "outputs")}
ABSENT = "(absent)"
UNVERIFIED = ("checkpoints", "plots")  # large, or for the eyes only; a checkpoint is verified when it is read


@dataclass(frozen=True)
class Reason:
    """Why a result is stale: what changed, from what, to what."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{clipped(self.key, 100)}: {_short(self.old)} -> {_short(self.new)}"


def _short(value: Any) -> str:
    return clipped(value, 60) if isinstance(value, str) else shown(value, 60)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Turn nested tables into {dotted key: leaf}."""
    if isinstance(value, Mapping) and value:
        return {
            key: leaf
            for name, item in value.items()
            for key, leaf in flatten(item, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    return {prefix: value}


def depended(recipe: Mapping[str, Any], depends: Iterable[str]) -> dict[str, Any]:
    """Return the leaves of a whole recipe that a stage depends on (tables or dotted keys), absent ones as None."""
    leaves: dict[str, Any] = {}
    for dotted in depends:
        node: Any = recipe
        for part in dotted.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        leaves |= flatten(node, dotted)
    return leaves


def changed(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[Reason]:
    """List the keys whose values differ, absent ones included."""
    keys = sorted(set(old) | set(new))
    return [
        Reason(prefix + key, old.get(key, ABSENT), new.get(key, ABSENT))
        for key in keys
        if old.get(key, ABSENT) != new.get(key, ABSENT)
    ]


@dataclass(frozen=True)
class Provenance:
    """Everything that a stage's result is made from; two equal values mean that it is fresh."""

    tables: Mapping[str, Any]
    settings: Mapping[str, Any]
    stage_table: Mapping[str, Any]
    user_files: Mapping[str, str]
    data_hash: str
    inputs: Mapping[str, Mapping[str, str]]

    def differences(self, manifest: Mapping[str, Any], own_settings: bool) -> list[Reason]:
        """List what differs from what a manifest recorded.

        `own_settings`: compare the settings in force (flags included); otherwise only the recipe's own table of the
        stage, so that a stage run with a flag stays a valid input of the next.
        """
        reasons = changed(manifest.get("tables", {}), self.tables)
        if own_settings:
            reasons += changed(manifest.get("settings", {}), self.settings, "settings.")
        else:
            stage = manifest.get("stage", "")
            reasons += changed(manifest.get("stage_table", {}), self.stage_table, f"stages.{stage}.")
        reasons += changed(manifest.get("user_files", {}), self.user_files)
        if manifest.get("data_hash", "") != self.data_hash:
            reasons.append(Reason("data files", manifest.get("data_hash") or ABSENT, self.data_hash or ABSENT))
        for name, value in self.inputs.items():
            old = manifest.get("inputs", {}).get(name, {})
            if old.get("choice") != value.get("choice"):
                reasons.append(Reason(f"choice of {name}", old.get("choice", ABSENT)[:12], value["choice"][:12]))
        return reasons


def input_entry(result_path: Path, choice: Mapping[str, Any]) -> dict[str, str]:
    """Describe an input stage in a manifest: its file, the file's hash, and the hash of what is read from it."""
    return {
        "file": f"{result_path.parent.name}/result.json",
        "sha256": sha256(result_path),
        "choice": digest(choice),
    }


def output_hashes(stage: StageDir) -> dict[str, str]:
    """Return {path relative to the stage: sha256} of every file of the stage but the manifest."""
    files = sorted(path for path in stage.path.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(stage.path)): sha256(path) for path in files if path != stage.manifest_path}


def verify_outputs(stage: StageDir, manifest: Mapping[str, Any], names: Sequence[str] | None = None) -> None:
    """Compare a stage's files with the hashes that its manifest recorded.

    Raises:
        InputError: a file is missing or was changed; the message names it.
    """
    outputs: Mapping[str, str] = manifest.get("outputs", {})
    for name, expected in outputs.items():
        if names is not None and name not in names:
            continue
        if names is None and name.split("/")[0] in UNVERIFIED:
            continue
        path = stage.path / name
        problem = (
            "is missing"
            if path.is_symlink() or not path.is_file()
            else "was changed after it was written"
            if sha256(path) != expected
            else ""
        )
        if problem:
            raise InputError(
                f"{path} {problem} (the manifest of {stage.label} records its sha256)",
                f"Restore the file, or start over: tuner {manifest.get('stage', stage.label)} RECIPE --fresh",
            )


def read_manifest(stage: StageDir) -> dict[str, Any] | None:
    """Return the manifest of a finished stage, or None when it has not finished."""
    if not stage.manifest_path.exists():
        return None
    manifest = read_json(stage.manifest_path)
    if wrong := kind_problem(manifest, TABLES) or _names_problem(manifest):
        raise InputError(
            f"{stage.manifest_path}: not what tuner wrote ({wrong})", f"Run {stage.label} again with --fresh."
        )
    return manifest


def _names_problem(manifest: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the names in a manifest: of the files that the stage wrote, and of its inputs."""
    for name, digits in manifest["outputs"].items():
        parts = name.split("/")
        if not isinstance(digits, str) or not all(parts) or {".", ".."} & set(parts) or "\\" in name:
            return f"its outputs hold {shown(name)}: {shown(digits)}"
    for name, entry in manifest["inputs"].items():
        if not isinstance(entry, dict) or not isinstance(entry.get("choice"), str):
            return f"its inputs hold {shown(name)}: {shown(entry)}"
    texts = ("stage", "recipe", "device", "finished_at", "data_hash")
    return next(
        (f"{key} is {shown(manifest[key])}" for key in texts if not isinstance(manifest.get(key, ""), str)), None
    )
