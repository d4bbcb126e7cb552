"""Rules over the loss function itself, asked about free outputs (check-init): codes IN104 to IN109, IN146, IN148."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.classes_heard.evidence import ClassesHeard
from tuner.core.result import Finding


@rule(
    "IN148",
    "loss-mismatch",
    "check-init",
    meaning="The loss is blind to a class: its examples pull no output anywhere.",
    detected="The loss function on random outputs with targets of one class: no output has a gradient.",
    why="The class is in the data and is never learnt; its examples are answered at random, or with another class.",
    fix="Take ignore_index out of the loss (it is for padding), or give the class a weight above 0.",
    confused_with="A class that stands for unlabelled examples, which is left out on purpose.",
    source="PyTorch documentation of CrossEntropyLoss (ignore_index, weight)",
)
def class_not_heard(heard: ClassesHeard) -> Finding | None:
    if not heard.unheard:
        return None
    listed = ", ".join(f"{label} ({share:.0%} of train)" for label, share in list(heard.unheard.items())[:4])
    return found("IN148", "warn", f"the loss ignores the examples of class {listed}", evidence=heard.to_json())
