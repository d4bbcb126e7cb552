"""A rule over what an optimizer's updates lead to (check-init): IN196."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.weights_return.evidence import WeightsReturn
from tuner.core.result import Finding


@rule(
    "IN196",
    "no-update",
    "check-init",
    meaning="The optimizer puts the first weights back now and then: training begins again and again.",
    detected="Updates under one and the same gradient: after some of them all weights are bit for bit the first ones.",
    why="What was learnt since is lost each time.",
    fix="Move the kept (slow) weights towards the trained ones before these are set to them: slow += alpha (fast - "
    'slow), with alpha of about 0.5; or take optimizer.name = "lookahead".',
    confused_with="Weights that do not move at all: their optimizer is told nothing, or its rate is 0.",
    source="Zhang et al. 2019, Lookahead Optimizer: k steps forward, 1 step back (algorithm 1)",
)
def the_first_weights_come_back(seen: WeightsReturn) -> Finding | None:
    if not seen.returned:
        return None
    at = ", ".join(str(update) for update in list(seen.returned)[:4])
    title = f"under a constant gradient the weights are the first ones again after update {at}"
    return found("IN196", "error", title, evidence=seen.to_json())
