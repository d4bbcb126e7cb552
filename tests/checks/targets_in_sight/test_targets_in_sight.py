"""Language models that see the word to predict, and those that do not."""

import pytest
import torch
from torch import nn

from tests.checks.asking import ask
from tuner.checks.targets_in_sight.measure import targets_in_sight
from tuner.checks.targets_in_sight.rules import answer_in_sight
from tuner.checks.tools.frame import DoesNotApply
from tuner.tasks.classification import Positions

WORDS, LENGTH = 12, 9


class Reader(nn.Module):
    """A transformer layer over words; `causal`: no position attends to later ones."""

    def __init__(self, causal, classes_last=False):
        super().__init__()
        self.words, self.causal, self.last = nn.Embedding(WORDS + 1, 16), causal, classes_last
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, WORDS)

    def forward(self, words):
        hidden = self.words(words)
        mask = nn.Transformer.generate_square_subsequent_mask(words.shape[1]) if self.causal else None
        scores = self.head(self.layer(hidden, mask))
        return scores if self.last else scores.movedim(-1, 1)


def text(count=64):
    return torch.randint(0, WORDS, (count, LENGTH + 1), generator=torch.Generator().manual_seed(0))


def seen(setup_of, inputs, targets, causal=True, **more):
    setup = setup_of(
        (inputs, targets),
        lambda: Reader(causal, **more),
        num_classes=WORDS,
        data={"task": Positions(ignore_index=-100)},
    )
    return targets_in_sight(setup)


@pytest.mark.parametrize("classes_last", [False, True])
def test_a_causal_model_does_not_see_the_next_word(setup_of, classes_last):
    words = text()
    found = seen(setup_of, words[:, :-1], words[:, 1:], classes_last=classes_last)
    assert (found.ahead, found.read, found.asked) == (1, 0, 4)
    assert ask(answer_in_sight, found) is None


@pytest.mark.parametrize("classes_last", [False, True])
def test_without_a_mask_the_next_word_is_read(setup_of, classes_last):
    words = text()
    found = seen(setup_of, words[:, :-1], words[:, 1:], causal=False, classes_last=classes_last)
    finding = ask(answer_in_sight, found)
    assert (finding.severity, finding.cause) == ("error", "target-leak")
    assert "the next word" in finding.title


def test_targets_that_are_not_shifted_are_read_in_their_own_place(setup_of):
    words = text()[:, :-1]
    finding = ask(answer_in_sight, seen(setup_of, words, words.clone()))
    assert finding.severity == "warn" and "in the same place" in finding.title


def test_padding_that_does_not_count_changes_nothing(setup_of):
    words = text()
    targets = words[:, 1:].clone()
    targets[:, -2:] = -100
    assert seen(setup_of, words[:, :-1], targets, causal=False).ahead == 1


def test_masked_words_are_not_given(setup_of):
    words = text()[:, :-1]
    hidden = torch.rand(words.shape, generator=torch.Generator().manual_seed(1)) < 0.2
    targets = words.masked_fill(~hidden, -100)
    assert seen(setup_of, words.masked_fill(hidden, WORDS), targets, causal=False).ahead is None


def test_tags_of_words_are_no_words(setup_of):
    words = text()[:, :-1]
    assert seen(setup_of, words, words % 3, causal=False).ahead is None


def test_a_text_of_one_word_gives_nothing_away(setup_of):
    words = torch.full((64, LENGTH), 3)
    words[:, 0] = torch.arange(64) % WORDS
    assert seen(setup_of, words[:, :-1], words[:, 1:], causal=False).ahead is None


def test_one_class_per_example_is_not_asked(setup_of, blobs):
    with pytest.raises(DoesNotApply, match="no target for each word"):
        targets_in_sight(setup_of(blobs(), lambda: nn.Linear(20, 10)))
