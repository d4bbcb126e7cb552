"""The rule over words to predict that the model is given (check-init): IN188."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.targets_in_sight.evidence import TargetsInSight
from tuner.core.result import Finding


@rule(
    "IN188",
    "target-leak",
    "check-init",
    meaning="The model is given the very words that it is to predict, and reads them.",
    detected="The target of nearly every position is the word given one or two places further on, or in its own place; "
    "with another word there the position's output changes. An error further on, a warning in the place itself.",
    why="The loss falls to nearly 0 by copying, in train and in val, and nothing of the language is learnt: when it "
    "writes by itself, the word is not there to be copied.",
    fix="Hide from each position what comes after it (a causal mask: is_causal=True, torch.tril; no bidirectional "
    "layer, no normalisation over the positions), and make the target of each the next word: words[:, :-1] in, "
    "words[:, 1:] out.",
    confused_with="Masked words, of which the model is given none; labels that a loss of the model's own shifts; an "
    "autoencoder, which is to give its words back (a warning: accept the code).",
    source="github.com/huggingface/transformers issue 48745; github.com/jadore801120/attention-is-all-you-need-pytorch "
    "issue 19; discuss.pytorch.org, nn.Transformer explaination, post 20",
)
def answer_in_sight(seen: TargetsInSight) -> Finding | None:
    if seen.ahead is None or not seen.read:
        return None
    where = {0: "the word given in the same place", 1: "the next word"}.get(
        seen.ahead, f"the word {seen.ahead} places on"
    )
    title = f"the target of {seen.share:.0%} of the positions is {where}, and the model reads it there"
    return found("IN188", "error" if seen.ahead else "warn", title, evidence=seen.to_json())
