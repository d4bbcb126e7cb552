"""The rule over the words of padded examples (check-init): IN186."""

from __future__ import annotations

from tuner.checks.cards import Missing, found, rule
from tuner.checks.words_heard.evidence import WordsHeard
from tuner.core.result import Finding


@rule(
    "IN186",
    "input-ignored",
    "check-init",
    meaning="Of an example with padding the model hears the padding, and none of its words.",
    detected="Examples that end, or begin, with padding get other words: no output of the fresh model, with a little "
    "noise on its weights, changes. They do, or are no longer finite, when words stand in the place "
    "of the padding.",
    why="Only the examples without padding can be learnt from.",
    fix="Turn the mask round: src_key_padding_mask and key_padding_mask are True where a place is to be IGNORED "
    "(tokens == padding); an attn_mask of scaled_dot_product_attention is True where it is to be heard.",
    confused_with="A model that looks at the length alone by design.",
    source="PyTorch documentation, nn.Transformer (src_key_padding_mask) and scaled_dot_product_attention",
)
def padding_alone_is_heard(heard: WordsHeard) -> Finding | None:
    if heard.words is None:
        raise Missing("the outputs are not finite")
    if heard.words > 0 or heard.length == 0:
        return None
    title = f"the outputs of {heard.padded} examples with padding do not depend on their words, only on the padding"
    return found("IN186", "error", title, evidence=heard.to_json())
