"""Evaluations that are the user's own, and right."""

import torch

from tests.zoo.case import healthy


@healthy("digits-mlp", "train.evaluate")
@torch.no_grad()
def own_evaluation(model, batches, loss):
    """The user's own evaluation, written as it should be."""
    model.eval()
    total = hits = count = 0
    for inputs, targets in batches:
        outputs = model(inputs)
        total += loss(outputs, targets).item() * len(targets)
        hits += (outputs.argmax(1) == targets).sum().item()
        count += len(targets)
    return {"loss": total / count, "accuracy": hits / count}


@healthy("shapes-convbn", "train.evaluate", source="averaging over a mirror image at test time")
@torch.no_grad()
def averaged_over_mirror_images(model, batches, loss):
    """Each image is shown twice, once mirrored, and the probabilities are averaged."""
    model.eval()
    total = hits = count = 0
    for inputs, targets in batches:
        outputs = (model(inputs).softmax(1) + model(inputs.flip(3)).softmax(1)).div(2).log()
        total += loss(outputs, targets).item() * len(targets)
        hits += (outputs.argmax(1) == targets).sum().item()
        count += len(targets)
    return {"loss": total / count, "accuracy": hits / count}


@healthy("cancer-mlp", "train.metric", changes={"train.monitor": "val_metric"})
def mean_recall(outputs, targets):
    """The mean of the two classes' recalls, which is not the accuracy and does not claim to be."""
    found = outputs.argmax(1)
    return torch.stack([(found[targets == c] == c).float().mean() for c in (0, 1)]).mean()


@healthy("digits-convbn", "train.evaluate")
@torch.no_grad()
def puts_the_train_mode_back(model, batches, loss):
    """Evaluates in eval mode, and leaves the model in the mode in which it was."""
    before = model.training
    model.eval()
    total = hits = count = 0
    for inputs, targets in batches:
        outputs = model(inputs)
        total += loss(outputs, targets).item() * len(targets)
        hits += (outputs.argmax(1) == targets).sum().item()
        count += len(targets)
    model.train(before)
    return {"loss": total / count, "accuracy": hits / count}
