"""Rules over the memory of recurrent layers (check-init): codes IN167 and IN168."""

from __future__ import annotations

from dataclasses import asdict

from tuner.checks.cards import found, rule
from tuner.checks.limits import Limit
from tuner.checks.recurrent_memory.evidence import RecurrentMemory
from tuner.core.result import Finding

LONG = Limit("long", 24, "steps", "zoo: shorter sequences are learnt with a short memory too")
HEARD = Limit("heard", 6, "steps", "zoo: torch's own LSTM and GRU hear further back at their start")
ARRIVES = Limit("arrives", 1e-3, "of the largest gradient", "derived: as the share that counts as heard")


@rule(
    "IN167",
    "bad-init-vanishing",
    "check-init",
    meaning="A recurrent layer forgets all but the last few steps of its sequence.",
    detected=f"The gradient at the layer's input, step by step: of {LONG} steps or more, at most {HEARD} have a "
    "thousandth of the largest gradient or more.",
    why="What stands at the beginning of the sequence has no gradient: it is learnt very late, or never.",
    fix="Start the bias of an LSTM's forget gates at +1 or more, use orthogonal recurrent weights, shorten the "
    "sequence, or pool over all steps in place of the last state.",
    confused_with="Sequences whose end alone matters.",
    source="Pascanu et al. 2013, On the difficulty of training RNNs; Jozefowicz et al. 2015 (bias of the forget gate)",
)
def forgets_at_once(memory: RecurrentMemory) -> Finding | None:
    for layer in memory.layers:
        if layer.steps < LONG or layer.heard > HEARD:
            continue
        title = (
            f"{layer.type} {layer.name} hears {layer.heard} of {layer.steps} steps: the gradient at the "
            "others is less than a thousandth of the largest"
        )
        return found("IN167", "warn", title, evidence=asdict(layer))
    return None


@rule(
    "IN168",
    "bad-init-vanishing",
    "check-init",
    meaning="The head reads a recurrent layer so long after the padding began that the sequence itself is forgotten.",
    detected="The gradient at the layer's input, before and within the tail of equal steps that most examples end "
    f"with: before it, it is less than {ARRIVES:g} of the largest.",
    why="The state after the padding is the same for every example: nothing of the input arrives.",
    fix="Take the output at the last real step (gather by length, or pack_padded_sequence), or pad in front.",
    confused_with="Sequences that are constant at their end by nature.",
    source="PyTorch documentation, pack_padded_sequence; discuss.pytorch.org 10263",
)
def forgotten_in_the_padding(memory: RecurrentMemory) -> Finding | None:
    for layer in memory.layers:
        if layer.reaches is None or layer.reaches >= ARRIVES:
            continue
        title = (
            f"{layer.type} {layer.name} is read up to {layer.tail} steps of padding after the sequence ends: "
            f"the gradient before it is {layer.reaches:.1g} of the largest"
        )
        return found("IN168", "error", title, evidence=asdict(layer))
    return None
