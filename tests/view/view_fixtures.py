"""A synthetic run folder: every stage's artifacts as the design page fixes them, with the numbers known."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

STAGES = ("check-init", "overfit", "lr-sweep", "coarse", "fine", "diagnose", "test")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)


def finding(code: str, severity: str, title: str, **more: Any) -> dict[str, Any]:
    base = {"code": code, "cause": "a-cause", "severity": severity, "title": title, "evidence": {}, "remedy": ""}
    return {**base, "confidence": 0.9, "changes": [], "accepted": False, **more}


def result(stage: str, verdict: str, headline: str, **more: Any) -> dict[str, Any]:
    checks = {"ran": [], "skipped": more.pop("skipped", [])}
    base = {"schema": 1, "stage": stage, "verdict": verdict, "headline": headline, "findings": [], "checks": checks}
    return {**base, "choice": {}, "metrics": {}, **more}


def check_init(folder: Path) -> dict[str, Any]:
    names = ["stem.conv", "stem.bn", "block1.conv1", "block1.bn1", "block2.conv1", "block2.bn1", "head"]
    layers = [
        {
            "name": name,
            "type": "Linear" if name == "head" else "Conv2d" if "conv" in name else "BatchNorm2d",
            "activation_mean": 0.3 - 0.04 * i,
            "activation_std": 1.0 - 0.07 * i,
            "zero_fraction": 0.5 if "bn" in name else 0.0,
            "dead_fraction": 0.0,
            "saturated_fraction": None,
            "grad_norm": 0.4 * 1.6**-i,
            "weight_norm": 3.0,
        }
        for i, name in enumerate(names)
    ]
    splits = {
        split: {"n": n, "shape": [1, 8, 8], "min": 0.0, "max": 16.0, "mean": 4.88, "std": 6.02, "class_counts": counts}
        for split, n, counts in (
            ("train", 1150, [114, 116, 113, 117, 116, 116, 116, 115, 111, 116]),
            ("val", 287, [28, 29, 28, 30, 29, 29, 29, 28, 28, 29]),
        )
    }
    metrics = {
        "init_loss": 2.3184,
        "init_loss_std": 0.0123,
        "expected_loss": 2.302585,
        "log_c": 2.302585,
        "prior_entropy": 2.3022,
        "num_classes": 10,
        "init_losses": [2.309, 2.331, 2.315],
        "layers": layers,
        "data": splits,
        "duplicates_across": 2,
        "class_names": [str(i) for i in range(10)],
        "planned_rates": {
            "name": "linear",
            "base": 0.1,
            "runs": {
                "coarse": {"epochs": 3, "steps": 27, "places": [0.0, 0.5, 0.9], "rates": [1.0, 0.5, 0.1]},
                "fine": {"epochs": 15, "steps": 135, "places": [0.0, 0.5, 0.9], "rates": [1.0, 0.5, 0.1]},
            },
        },
    }
    headline = (
        "The loss before any update is 2.318 +- 0.012, as expected of 10 classes (2.303); one step is wired right."
    )
    findings = [
        finding(
            "DA104",
            "note",
            "2 examples are in train and in val",
            evidence={"duplicates": 2, "share_of_val": 0.00697},
            remedy="Remove them from val if they are copies; 0.7 % of val cannot move the result.",
        )
    ]
    skipped = [{"check": "IN109 dead units", "why": "the model has no rectifier"}]
    return result("check-init", "pass", headline, findings=findings, metrics=metrics, skipped=skipped)


def overfit(folder: Path) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for step in range(1, 241):
        loss = 2.3 * math.exp(-step / 28) + 2e-4
        share = min(1.0, step / 70)
        rows.append({"step": step, "epoch": step, "split": "train", "loss": loss, "accuracy": share, "lr": 0.01})
        if step % 20 == 0:
            rows.append({"step": step, "epoch": step, "split": "train_eval", "loss": loss * 1.1, "accuracy": share})
    write_csv(folder / "curves" / "0f1e2d3c4b5a.csv", rows)
    rates = [
        {"lr": 0.001, "final_loss": 0.0913, "final_accuracy": 0.98, "steps": 400, "status": "completed"},
        {"lr": 0.01, "final_loss": 0.00064, "final_accuracy": 1.0, "steps": 240, "status": "completed"},
        {"lr": 0.1, "final_loss": None, "final_accuracy": None, "steps": 17, "status": "diverged"},
    ]
    metrics = {
        "final_loss": 0.00064,
        "loss_floor": 0.0,
        "final_accuracy": 1.0,
        "steps": 240,
        "lr": 0.01,
        "trial": "0f1e2d3c4b5a",
        "examples": 50,
        "rates": rates,
        "train_mode_loss": 0.0007,
    }
    headline = "50 examples are learnt by heart in 240 steps: loss 0.0006 (floor 0), accuracy 1.000 in eval mode."
    return result("overfit", "pass", headline, metrics=metrics)


def lr_sweep(folder: Path) -> dict[str, Any]:
    table = [
        (1e-4, 2.281, 0.004, 0.02, "too low: no change beyond noise"),
        (1e-3, 1.874, 0.010, 0.43, "falls"),
        (1e-2, 1.402, 0.021, 0.90, "falls, steepest"),
        (0.0316, 1.431, 0.041, 0.87, "falls"),
        (1e-1, 1.510, 0.110, 0.79, "falls, noisy"),
        (1.0, None, None, None, "diverges, nan at step 14"),
    ]
    rates, trials = [], {}
    for i, (lr, final, std, drop, words) in enumerate(table):
        status = "diverged" if final is None else "completed"
        entry = {"lr": lr, "first_loss": 2.304, "final_loss": final, "final_loss_std": std, "drop": drop}
        rates.append({**entry, "drop_std": std, "status": status, "verdict": words})
        trials[repr(lr)] = [f"{i:03d}a", f"{i:03d}b"]
        for seed, name in enumerate(trials[repr(lr)]):
            rows = []
            for step in range(1, 15 if final is None else 101):
                loss = 2.304 - (drop or -0.4) * (1 - math.exp(-step / 30)) + 0.03 * math.sin(step * 1.7 + seed + i)
                rows.append({"step": step, "epoch": 1, "split": "train", "loss": loss})
            write_csv(folder / "curves" / f"{name}.csv", rows)
    choice = {"lr": 0.02, "lr_low": 1e-3, "lr_high": 1e-1, "precision": "bf16"}
    headline = "Loss falls clearly between 1e-3 and 1e-1; use 0.02 (centre of the rates within 80 % of the best drop)."
    metrics = {"rates": rates, "noise": 0.02, "trials": trials}
    return result("lr-sweep", "pass", headline, metrics=metrics, choice=choice)


def search_trials(folder: Path, count: int, epochs: int) -> list[dict[str, Any]]:
    rows = []
    for i in range(count):
        lr = 10 ** (-4 + 4 * ((i * 0.618) % 1))
        decay = 10 ** (-6 + 4 * ((i * 0.371) % 1))
        gone = lr > 0.3
        best = 0.93 - 0.09 * abs(math.log10(lr) + 1.7) - 0.02 * abs(math.log10(decay) + 4)
        name = f"{i:02d}ab34cd56ef"
        row = {"number": i, "trial": name, "seed": 0, "optimizer.lr": lr, "optimizer.weight_decay": decay}
        row |= {"model.width": (16, 32)[i % 2], "optimizer.name": ("sgd", "adamw")[i % 3 == 0]}
        row |= {"status": "diverged" if gone else "completed", "score": None if gone else best}
        rows.append({**row, "best_epoch": epochs, "best_val_accuracy": None if gone else best, "wall_seconds": 3.2})
        curve = []
        for epoch in range(1, epochs + 1):
            seen = best * (1 - 0.6 * math.exp(-epoch / 2))
            for split, plus in (("train", 0.02), ("train_eval", 0.03), ("val", 0.0)):
                loss = None if gone else 2.3 * (1 - seen) + 0.2 - plus
                curve.append(
                    {"step": epoch * 36, "epoch": epoch, "split": split, "loss": loss, "accuracy": seen + plus}
                )
        write_csv(folder / "curves" / f"{name}.csv", curve[:3] if gone else curve)
    write_csv(folder / "trials.csv", rows)
    return rows


KEYS = ("optimizer.lr", "optimizer.weight_decay", "model.width", "optimizer.name")


IMPORTANCE = [
    {"key": "optimizer.lr", "importance": 0.71, "low": 0.44, "high": 0.93, "enough": True},
    {"key": "model.width", "importance": 0.06, "low": 0.0, "high": 0.15, "enough": False},
    {"key": "optimizer.name", "importance": 0.02, "low": 0.0, "high": 0.08, "enough": False},
    {"key": "optimizer.weight_decay", "importance": 0.0, "low": 0.0, "high": 0.05, "enough": False},
]


def coarse(folder: Path) -> dict[str, Any]:
    rows = search_trials(folder, 16, 4)
    done = sorted((row for row in rows if row["score"] is not None), key=lambda row: -row["score"])
    top = [
        {
            "params": {key: row[key] for key in KEYS},
            "val_loss": 2.5 - 2.3 * row["score"],
            "val_accuracy": row["score"],
            "trial": row["trial"],
        }
        for row in done[:6]
    ]
    space = {
        "optimizer.lr": {
            "low": 0.005,
            "high": 0.08,
            "log": True,
            "reason": "the best 4 trials lie between 0.01 and 0.04",
        },
        "optimizer.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True, "reason": "no trend: kept as it was"},
        "model.width": {"choices": [16, 32], "reason": "both are among the best"},
    }
    before = {"optimizer.lr": {"low": 1e-4, "high": 1.0, "log": True}}
    metrics = {"trials": 16, "completed": len(done), "diverged": 16 - len(done), "failed": 0, "space": before}
    metrics["best_val_accuracy"] = done[0]["score"]
    metrics |= {"importance": IMPORTANCE, "importance_epoch": 4, "importance_trials": 16}
    headline = f"Best of 16 after 4 epochs: val accuracy {done[0]['score']:.3f}; rates above 0.3 diverge."
    return result("coarse", "pass", headline, metrics=metrics, choice={"top": top, "space": space})


def fine(folder: Path) -> dict[str, Any]:
    rows = search_trials(folder, 8, 12)
    done = sorted((row for row in rows if row["score"] is not None), key=lambda row: -row["score"])
    finalists = [
        {
            "trial": row["trial"],
            "params": {key: row[key] for key in KEYS},
            "scores": [row["score"] - 0.004, row["score"], row["score"] + 0.003],
            "mean": row["score"],
            "std": 0.0035,
        }
        for row in done[:3]
    ]
    win = finalists[0]
    metrics = {
        "trials": 8,
        "completed": len(done),
        "diverged": 8 - len(done),
        "failed": 0,
        "best_val_accuracy": win["scores"][-1],
        "seeds": 3,
        "mean": win["mean"],
        "std": win["std"],
        "interval": [win["mean"] - 0.009, win["mean"] + 0.009],
        "expected": {
            "value": win["mean"] - 0.0045,
            "basis": win["mean"] - 0.001,
            "basis_runs": 2,
            "selection": 0.0024,
            "epochs": 0.0011,
            "examples_half": 0.0085,
            "seeds_half": 0.003,
        },
        "preferred": "it cannot be distinguished from lr 0.02, width 32 and has 40 % fewer parameters",
        "importance": [{**entry, "enough": False} for entry in IMPORTANCE],
        "importance_epoch": 6,
        "importance_trials": 8,
        "runner_up_p": 0.21,
        "trial": win["trial"],
        "finalists": finalists,
        "mean_epoch_seconds": 0.41,
    }
    choice = {
        "params": win["params"],
        "trial": win["trial"],
        "checkpoint": f"fine/checkpoints/{win['trial']}.pt",
        "epochs": 12,
    }
    headline = f"Winner: val accuracy {win['mean']:.3f} (3 seeds), not to be told from the second (p = 0.21)."
    findings = [
        finding(
            "FI502",
            "note",
            "the winner is within noise of the second",
            evidence={"p": 0.21, "difference": 0.0031},
            remedy="Either will do.",
        ),
        finding(
            "FI504",
            "warn",
            "the best rate lies at the edge of the space",
            evidence={"lr": 0.08, "high": 0.08},
            remedy="Widen it.",
            accepted=True,
        ),
    ]
    return result("fine", "pass", headline, metrics=metrics, choice=choice, findings=findings)


def diagnose(folder: Path) -> dict[str, Any]:
    curve = []
    for epoch in range(1, 13):
        train, val = (
            0.4 * math.exp(-epoch / 3) + 0.02,
            0.4 * math.exp(-epoch / 3) + 0.16 + 0.004 * max(0, epoch - 7) ** 1.5,
        )
        curve.append(
            {"step": epoch * 36, "epoch": epoch, "split": "train_eval", "loss": train, "accuracy": 0.995 - train / 4}
        )
        curve.append({"step": epoch * 36, "epoch": epoch, "split": "val", "loss": val, "accuracy": 0.97 - val / 4})
    write_csv(folder.parent / "fine" / "curves" / "feedbeef0123.csv", curve)
    metrics = {
        "train_accuracy": 0.9883,
        "val_accuracy": 0.9262,
        "gap": 0.0621,
        "gap_interval": [0.041, 0.083],
        "best_epoch": 9,
        "epochs": 12,
        "trial": "feedbeef0123",
        "curves_stage": "fine",
        "val_loss": 0.1912,
        "train_loss": 0.0399,
        "noise": 0.004,
    }
    changes = [
        {
            "key": "optimizer.weight_decay",
            "from": 1e-05,
            "to": 0.0001,
            "reason": "train 0.988 against val 0.926: regularise",
        },
        {
            "key": "data.augment",
            "from": [],
            "to": ["hflip", {"name": "random_crop", "padding": 4}],
            "reason": "the same gap, from the data's side",
        },
    ]
    findings = [
        finding(
            "CU603",
            "note",
            "the model overfits: train is clearly better than val, and the val loss rises from epoch 9 on",
            evidence={
                "gap": 0.0621,
                "gap_low": 0.041,
                "best_epoch": 9,
                "val_loss_rise": 0.021,
                "curve": [1, 2, 3, 4, 5, 6],
            },
            remedy="Add weight decay or augmentation, then return to step 5: tuner run --rounds 1.",
        )
    ]
    skipped = [
        {"check": f"CU60{i} a check", "why": "the curve is too short for it (12 epochs, needs 15)"} for i in range(6)
    ]
    headline = "Overfitting: train accuracy 0.988 against val 0.926 at epoch 9 of 12 (gap 0.062, 0.041 to 0.083)."
    return result(
        "diagnose", "pass", headline, metrics=metrics, choice={"changes": changes}, findings=findings, skipped=skipped
    )


def test(folder: Path) -> dict[str, Any]:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    matrix = [[(8 if (i, j) in ((3, 5), (5, 3)) else (i * 3 + j * 7) % 4 // 3) for j in range(10)] for i in range(10)]
    for i in range(10):
        matrix[i][i] = 100 - sum(count for j, count in enumerate(matrix[i]) if j != i)
    right = sum(matrix[i][i] for i in range(10))
    metrics = {
        "accuracy": right / 1000,
        "interval": [0.947, 0.972],
        "loss": 0.1174,
        "n": 1000,
        "confusion": matrix,
        "class_names": names,
        "per_class": [matrix[i][i] / 100 for i in range(10)],
        "stage_of_checkpoint": "fine",
    }
    headline = f"Test accuracy {right / 1000:.4f} on 1,000 examples that no step has seen (95 %: 0.947 to 0.972)."
    return result("test", "pass", headline, metrics=metrics)


MAKERS = {
    "check-init": check_init,
    "overfit": overfit,
    "lr-sweep": lr_sweep,
    "coarse": coarse,
    "fine": fine,
    "diagnose": diagnose,
    "test": test,
}


def load(run: Path, stage: str) -> dict[str, Any]:
    return json.loads((run / stage / "result.json").read_text())


def plain_console(width: int = 80, encoding: str = "utf-8") -> tuple[Console, io.TextIOWrapper]:
    """A console like that of a pipe, and the file it writes to."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    return Console(file=file, width=width, highlight=False), file


def text_of(file: io.TextIOWrapper) -> str:
    return file.buffer.getvalue().decode(file.encoding)  # type: ignore[attr-defined]
