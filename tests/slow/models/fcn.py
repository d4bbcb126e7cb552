"""torchvision's FCN on a small backbone: a dictionary of outputs, a class for every pixel."""

import torch
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.fcn import FCN, FCNHead


def load(pictures=160, size=16):
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(pictures, 3, size, size, generator=draw) * 0.3
    y = torch.zeros(pictures, size, size, dtype=torch.long)
    for i in range(pictures):
        top, left = torch.randint(0, size - 7, (2,), generator=draw).tolist()
        kind = i % 2
        x[i, kind, top : top + 7, left : left + 7] += 0.6
        y[i, top : top + 7, left : left + 7] = kind + 1
    return (x, y), None


def build(num_classes, width=16):
    body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 32, 3, padding=1), nn.ReLU())
    return FCN(IntermediateLayerGetter(body, {"3": "out"}), FCNHead(32, num_classes))
