"""An LSTM over packed sequences: the inputs are the padded sequences and their lengths."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence


def load(series=400):
    draw = torch.Generator().manual_seed(0)
    steps = torch.randint(5, 13, (series,), generator=draw)
    x = [torch.randn(int(n), 3, generator=draw) for n in steps]
    return [(s, int(s[:, 0].sum() > 0)) for s in x], None


def collate(items):
    x, y = zip(*items, strict=True)
    return (pad_sequence(x, batch_first=True), torch.tensor([len(s) for s in x])), torch.tensor(y)


class Reader(nn.Module):
    def __init__(self, num_classes, width=24):
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, width, batch_first=True), nn.Linear(width, num_classes)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.lstm(packed)[1][0][-1])
