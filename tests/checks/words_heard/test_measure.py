import pytest
import torch
from torch import nn

from tuner.checks.tools.frame import DoesNotApply
from tuner.checks.words_heard.measure import words_heard


class Reads(nn.Module):
    """A transformer over words that leaves out what its mask says; `heard`: makes the mask of the padding."""

    def __init__(self, mask):
        super().__init__()
        self.mask = mask
        self.embed = nn.Embedding(30, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, words):
        ignored = self.mask(words == 0)
        encoded = self.encoder(self.embed(words), src_key_padding_mask=ignored)
        kept = (~ignored).unsqueeze(2)
        return self.head((encoded * kept).sum(1) / kept.sum(1).clamp_min(1))


def padded(front=False, length=12):
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(1, 30, (40, length), generator=generator)
    ends = torch.randint(3, length, (40, 1), generator=generator)
    words = torch.where(torch.arange(length) < ends, words, 0)
    return words.flip(1) if front else words, torch.arange(40) % 3


@pytest.mark.parametrize("front", [False, True], ids=["behind", "before"])
@pytest.mark.parametrize(
    ("mask", "hears"),
    [(lambda padding: padding, True), (lambda padding: ~padding, False), (torch.zeros_like, True)],
    ids=["right", "the wrong way round", "none"],
)
def test_words_are_heard_unless_the_mask_is_the_wrong_way_round(setup_of, front, mask, hears):
    found = words_heard(setup_of(padded(front), lambda: Reads(mask), num_classes=3))
    assert (found.words > 0.01, found.padding, found.padded) == (hears, 0, int(((padded()[0] == 0).sum(1) > 1).sum()))
    assert found.length is None if not hears else found.length > 0.01  # every place of a full row is masked


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(30, 8), nn.Linear(8, 3)

    def forward(self, words):
        return self.head(self.embed(words.long()).mean(1))


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        (torch.arange(400).reshape(40, 10) % 29, "too few examples have padding"),
        (torch.cat([1 + torch.arange(360).reshape(40, 9) % 28, torch.full((40, 1), 29)], 1), "too few examples"),
        (torch.rand(40, 10), "no rows of word numbers"),
    ],
    ids=["no padding", "one end mark", "real numbers"],
)
def test_it_is_about_padded_rows_of_words(setup_of, inputs, why):
    with pytest.raises(DoesNotApply, match=why):
        words_heard(setup_of((inputs, torch.arange(40) % 3), Bag, num_classes=3))
