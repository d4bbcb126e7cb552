"""Regularisation that keeps the model from learning."""

import math

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.case import bug

# --- weight decay -----------------------------------------------------------------------------------------------------

bug(
    "digits-mlp",
    name="weight_decay_of_one",
    causes=["over-regularised"],
    step="diagnose",
    changes={"optimizer.weight_decay": 1.0},
    what="Weight decay 1 in SGD, where it is an L2 penalty: the weights shrink to nothing.",
)

bug(
    "shapes-conv",
    name="weight_decay_of_a_tenth",
    causes=["over-regularised"],
    step="diagnose",
    changes={"optimizer.weight_decay": 0.1},
    what="AdamW's weight decay of 0.1 is kept for SGD.",
)

bug(
    "shapes-resnet",
    name="decay_that_empties_batch_norm",
    causes=["over-regularised"],
    step="diagnose",
    changes={"optimizer.weight_decay": 0.3},
    what="Weight decay 0.3 on everything: the gains of batch norm and the head go to zero.",
)


@bug("digits-convbn", "train.step", causes=["over-regularised"], step="overfit")
def penalty_of_absolute_weights_too_large(model, batch, loss, optimizer):
    """An L1 penalty is added with a factor of 0.1, on the sum over all weights."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets) + 0.1 * sum(item.abs().sum() for item in model.parameters())
    value.backward()
    optimizer.step()
    return value


# --- dropout ----------------------------------------------------------------------------------------------------------

bug(
    "shapes-convbn",
    name="dropout_of_nine_tenths",
    causes=["over-regularised"],
    step="diagnose",
    changes={"model.dropout": 0.9},
    what="Nine of ten channels are dropped in every block.",
)

bug(
    "digits-mlp",
    name="keep_share_given_as_dropout",
    causes=["over-regularised"],
    step="diagnose",
    changes={"model.dropout": 0.95, "model.depth": 4},
    twin={"model.depth": 4},
    what="The share to keep, 0.95, is given where the share to drop is asked for.",
    source="https://github.com/hassony2/kinetics_i3d_pytorch/issues/6",
)


@bug("digits-mlp", "model.name", causes=["over-regularised"], step="overfit")
def dropout_on_inputs_and_scores(input_shape, num_classes, width, depth):
    """Functional dropout of 0.9 on the pixels, and again on the scores of the classes."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(math.prod(input_shape), width)
            self.head = nn.Linear(width, num_classes)

        def forward(self, x):
            x = functional.dropout(x.flatten(1), 0.9, training=self.training)
            return functional.dropout(self.head(functional.relu(self.hidden(x))), 0.9, training=self.training)

    return Net()


# --- augmentation -----------------------------------------------------------------------------------------------------


@bug("digits-conv", "data.augment", causes=["augmentation-harms", "over-regularised"], step="diagnose")
def noise_louder_than_the_image(inputs, targets, generator):
    """Noise is added to pixels of 0 to 1 with a spread of 3: a typing error for 0.3."""
    pixels = inputs.float() / 255
    noise = torch.randn(inputs.shape, generator=generator).to(inputs.device)
    return (pixels + 3.0 * noise) * 255, targets


@bug("shapes-resnet", "data.augment", causes=["augmentation-harms", "over-regularised"], step="diagnose")
def erases_nearly_everything(inputs, targets, generator):
    """Random erasing with its share turned round: a small square of each image is kept, the rest is erased."""
    n, _, height, width = inputs.shape
    side = max(2, height // 5)
    top = torch.randint(0, height - side + 1, (n, 1), generator=generator)
    left = torch.randint(0, width - side + 1, (n, 1), generator=generator)
    rows, columns = torch.arange(height), torch.arange(width)
    kept = ((rows >= top) & (rows < top + side))[:, None, :, None]
    kept = kept & ((columns >= left) & (columns < left + side))[:, None, None, :]
    return inputs * kept.to(inputs.device), targets


@bug("digits-convbn", "data.augment", causes=["augmentation-harms"], step="diagnose")
def rows_shuffled(inputs, targets, generator):
    """An augmentation for sets of measurements, which shuffles their order, is used on the rows of images."""
    order = torch.argsort(torch.rand(len(inputs), inputs.shape[2], generator=generator), dim=1).to(inputs.device)
    index = order[:, None, :, None].expand_as(inputs)
    return inputs.gather(2, index), targets
