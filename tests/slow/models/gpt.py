"""A model in the style of karpathy's nanoGPT: forward(idx, targets=None) gives (logits, loss)."""

import torch
from torch import nn
from torch.nn import functional as F


def load(texts=300, length=16, letters=12):
    draw = torch.Generator().manual_seed(0)
    start, stride = torch.randint(0, letters, (2, texts, 1), generator=draw)
    ids = (start + stride * torch.arange(length + 1)) % letters
    return (ids[:, :-1], ids[:, 1:]), None  # the first letter does not tell the second


class GPT(nn.Module):
    def __init__(self, num_classes, width=32):
        super().__init__()
        self.words, self.places = nn.Embedding(num_classes, width), nn.Embedding(16, width)
        self.block = nn.TransformerEncoderLayer(width, 2, 64, 0.0, batch_first=True)
        self.head = nn.Linear(width, num_classes)

    def forward(self, idx, targets=None):
        mask = nn.Transformer.generate_square_subsequent_mask(idx.shape[1], device=idx.device)
        logits = self.head(self.block(self.words(idx) + self.places.weight[: idx.shape[1]], mask, is_causal=True))
        return logits, None if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())
