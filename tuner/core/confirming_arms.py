"""The names of the confirming runs: `search.confirm` plans them, rules read their answers by name."""

CONTROL = "control"
FASTER, SLOWER = "rate x 10", "rate / 10"
FREE, WIDER, UNCLIPPED, FULL_PRECISION = "regularisation off", "width x 2", "clipping off", "fp32"
FREE_FASTER = f"{FREE}, {FASTER}"  # decay that is too strong forces a low rate: neither alone fixes that
FROM_SCRATCH = ", from scratch"  # ends the name of a run from new weights, beside a control that starts so too
OFF = " off"  # after the key of a single regulariser
