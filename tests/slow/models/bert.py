"""Hugging Face's BertForSequenceClassification: token ids of several lengths, padded by the collate function."""

import torch
from transformers import BertConfig, BertForSequenceClassification


def load(sentences=400, words=40):
    draw = torch.Generator().manual_seed(0)
    items = []
    for _ in range(sentences):
        ids = torch.randint(2, words, (int(torch.randint(8, 16, (1,), generator=draw)),), generator=draw)
        items.append({"input_ids": ids, "label": int((ids < words // 2).float().mean() > 0.5)})
    return items, None


def collate(items):
    ids = torch.nn.utils.rnn.pad_sequence([item["input_ids"] for item in items], batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": torch.tensor([i["label"] for i in items])}


def build(num_classes, width=32):
    config = BertConfig(vocab_size=40, hidden_size=width, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=64, max_position_embeddings=16, num_labels=num_classes)  # fmt: skip
    return BertForSequenceClassification(config)
