import pytest

from tests.checks.asking import ask, built
from tuner.checks.cards import Missing
from tuner.checks.words_heard.rules import padding_alone_is_heard


@pytest.mark.parametrize(
    ("words", "length", "fires"),
    [(0.0, 0.5, True), (1e-6, 0.5, False), (0.0, 0.0, False), (0.3, 0.0, False), (0.0, None, True)],
)
def test_only_padding_that_is_heard_without_the_words_is_a_finding(words, length, fires):
    finding = ask(padding_alone_is_heard, built("words_heard", padding=0, padded=40, words=words, length=length))
    assert (finding is not None) == fires
    if finding:
        assert (finding.cause, finding.severity) == ("input-ignored", "error")
        assert finding.title.startswith("the outputs of 40 examples with padding do not depend on their words")


def test_outputs_that_are_not_finite_say_nothing():
    with pytest.raises(Missing, match="not finite"):
        ask(padding_alone_is_heard, built("words_heard", padding=0, padded=40, words=None, length=0.5))
