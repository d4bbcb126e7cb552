"""Bugs of the training loop and of the optimizer that it is given."""

import copy

import torch
from torch import nn

from tests.zoo.case import bug

# --- gradients and updates --------------------------------------------------------------------------------------------


@bug(
    "digits-mlp",
    "train.step",
    causes=["gradients-accumulate"],
    step="check-init",
    source="https://github.com/wenet-e2e/wekws/issues/72",
)
def gradients_are_never_cleared(model, batch, loss, optimizer):
    """The gradients are never set to zero, so every step adds to those before it."""
    inputs, targets = batch
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    return value


@bug("shapes-convbn", "train.step", causes=["gradients-accumulate"], step="check-init")
def only_the_last_layer_is_cleared(model, batch, loss, optimizer):
    """A habit of fine-tuning is left over: zero_grad is called on the head alone, all other gradients add up."""
    inputs, targets = batch
    model[-1].zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    return value


@bug(
    "digits-conv",
    "train.step",
    causes=["no-update"],
    step="check-init",
    source="https://github.com/cloneofsimo/lora/issues/263",
)
def cleared_between_backward_and_step(model, batch, loss, optimizer):
    """zero_grad stands after backward: every update sees a gradient of nothing."""
    inputs, targets = batch
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.zero_grad()
    optimizer.step()
    return value


@bug("digits-transformer", "train.step", causes=["no-update"], step="check-init")
def step_is_never_called(model, batch, loss, optimizer):
    """The gradients are computed, and optimizer.step() was forgotten."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    return value


@bug("cancer-mlp", "train.step", causes=["no-update", "untrained-parameters"], step="check-init")
def backward_on_a_copied_loss(model, batch, loss, optimizer):
    """The error "does not require grad" was silenced by a new tensor, which leads back to no weight."""
    inputs, targets = batch
    optimizer.zero_grad()
    outputs = model(inputs).detach()
    value = torch.tensor(loss(outputs, targets).item(), requires_grad=True)
    value.backward()
    optimizer.step()
    return value


@bug("shapes-convbn", "train.step", causes=["no-update"], step="check-init")
def one_update_per_epoch(model, batch, loss, optimizer):
    """optimizer.step() is indented one level too little, so it comes once per epoch, after its last batch."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    state["batches"] = state.get("batches", 0) + 1
    if state["batches"] % 25 == 0:  # batches per epoch
        optimizer.step()
    return value


@bug(
    "shapes-conv",
    "train.step",
    causes=["summed-loss", "lr-too-high"],
    step="lr-sweep",
    changes={"train.batch_size": 8},
    source="https://github.com/hirofumi0810/neural_sp/issues/168",
)
def accumulated_without_division(model, batch, loss, optimizer):
    """Eight small batches make one update, and their losses are added, not averaged."""
    inputs, targets = batch
    value = loss(model(inputs), targets)
    value.backward()
    state["batches"] = state.get("batches", 0) + 1
    if state["batches"] % 8 == 0:
        optimizer.step()
        optimizer.zero_grad()
    return value


@bug("shapes-conv", "train.step", causes=["gradient-clipped-away"], step="check-init")
def each_gradient_value_clipped(model, batch, loss, optimizer):
    """Every value of the gradient is clipped at 1e-5, the norm was meant, and at 1."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    nn.utils.clip_grad_value_(model.parameters(), 1e-5)
    optimizer.step()
    return value


bug(
    "digits-convbn",
    name="clip_norm_of_a_millionth",
    causes=["gradient-clipped-away"],
    step="lr-sweep",
    changes={"train.clip_norm": 1e-6},
    what="The recipe clips the gradient's norm at 1e-6.",
)


@bug(
    "cifar-convbn",
    "train.step",
    causes=["gradient-clipped-away", "precision-problem"],
    step="check-init",
    source="https://github.com/Lightning-AI/pytorch-lightning/issues/9599",
)
def clipped_before_unscaling(model, batch, loss, optimizer):
    """The gradients are clipped while they still carry the loss scale of 65536, which is then divided out."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    (value * 65536).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for item in model.parameters():
        item.grad /= 65536
    optimizer.step()
    return value


bug(
    "digits-conv",
    name="optimizer_maximises",
    causes=["sign-flipped-loss"],
    step="check-init",
    changes={"optimizer.maximize": True},
    what="The optimizer was configured for a reward: maximize = true.",
)


@bug("cancer-mlp", "train.step", causes=["sign-flipped-loss"], step="check-init")
def gradient_reversed(model, batch, loss, optimizer):
    """The gradients are reversed, as for an adversary that has left the program."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    for item in model.parameters():
        item.grad.neg_()
    optimizer.step()
    return value


@bug("cifar-convbn", "train.step", causes=["untrained-parameters"], step="check-init")
def features_without_gradient(model, batch, loss, optimizer):
    """The features are computed under no_grad, to save memory: only the head learns."""
    inputs, targets = batch
    optimizer.zero_grad()
    with torch.no_grad():
        features = model[:-1](inputs)
    value = loss(model[-1](features), targets)
    value.backward()
    optimizer.step()
    return value


@bug("digits-mlp", "train.step", causes=["repeated-data"], step="check-init")
def first_batch_again_and_again(model, batch, loss, optimizer):
    """The test on a single batch was never taken out: every step trains on the first one."""
    inputs, targets = state.setdefault("batch", batch)
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    return value


@bug("digits-resnet", "train.step", causes=["repeated-data", "too-little-data"], step="check-init")
def most_of_the_batch_thrown_away(model, batch, loss, optimizer):
    """A slice left from debugging keeps two examples of every batch."""
    inputs, targets = batch[0][:2], batch[1][:2]
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    return value


# --- modes ------------------------------------------------------------------------------------------------------------


@bug(
    "shapes-resnet",
    "train.step",
    causes=["eval-mode-in-training"],
    step="check-init",
    source="https://github.com/ThilinaRajapakse/simpletransformers/issues/941",
)
def trained_in_eval_mode(model, batch, loss, optimizer):
    """An accuracy is logged in eval mode in each step, and the model is not set back: batch norm learns nothing."""
    inputs, targets = batch
    model.eval()
    with torch.no_grad():
        state["accuracy"] = (model(inputs).argmax(1) == targets).float().mean()
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    return value


@bug(
    "shapes-convbn",
    "train.evaluate",
    causes=["train-mode-in-eval"],
    step="check-init",
    changes={"model.dropout": 0.5},
    twin={"model.dropout": 0.5},
)
def evaluated_in_train_mode(model, batches, loss):
    """The evaluation never calls model.eval(): dropout is active, and batch norm learns from the val images."""
    total = hits = count = 0.0
    with torch.no_grad():
        for inputs, targets in batches:
            outputs = model(inputs)
            total += float(loss(outputs, targets)) * len(targets)
            hits += float((outputs.argmax(1) == targets).sum())
            count += len(targets)
    return {"loss": total / count, "accuracy": hits / count}


# --- the optimizer ----------------------------------------------------------------------------------------------------


@bug(
    "digits-mlp",
    "train.step",
    causes=["optimizer-state-lost"],
    step="check-init",
    changes={"optimizer.lr": 0.005},
    twin={"optimizer.lr": 0.005},
)
def momentum_lost_in_every_step(model, batch, loss, optimizer):
    """The optimizer's state is cleared in every step, so that there is never any momentum."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    optimizer.state.clear()
    return value


@bug(
    "shapes-conv",
    "train.step",
    causes=["optimizer-state-lost"],
    step="check-init",
    changes={"optimizer.lr": 0.01},
    twin={"optimizer.lr": 0.01},
)
def optimizer_rebuilt_in_every_step(model, batch, loss, optimizer):
    """A new optimizer is built in each step, with the same rate, and with no momentum yet."""
    inputs, targets = batch
    optimizer = torch.optim.SGD(model.parameters(), lr=optimizer.param_groups[0]["lr"], momentum=0.9)
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    return value


@bug(
    "cifar-resnet",
    "optimizer.name",
    causes=["untrained-parameters"],
    step="check-init",
    source="https://github.com/ohhhyeahhh/SiamCAR/issues/18",
)
def blocks_left_out_of_the_groups(model, lr, momentum):
    """The groups of the optimizer are written by hand, for the first layer and the head; the blocks were forgotten."""
    groups = [{"params": model.conv.parameters()}, {"params": model.norm.parameters()}]
    groups.append({"params": model.head.parameters(), "lr": lr})
    return torch.optim.SGD(groups, lr=lr, momentum=momentum)


@bug("shapes-convbn", "optimizer.name", causes=["untrained-parameters", "no-update"], step="check-init")
def optimizer_of_another_model(model, lr, momentum):
    """The model is copied after the optimizer was made: the optimizer updates the copy that nobody uses."""
    first = copy.deepcopy(model)
    return torch.optim.SGD(first.parameters(), lr=lr, momentum=momentum)


@bug("digits-mlp", "optimizer.name", causes=["untrained-parameters"], step="check-init")
def only_the_biases_are_optimised(model, lr, momentum):
    """The filter for parameters without weight decay picks those that are trained: biases alone."""
    chosen = [item for name, item in model.named_parameters() if "bias" in name]
    return torch.optim.SGD(chosen, lr=lr, momentum=momentum)


# --- precision --------------------------------------------------------------------------------------------------------


@bug(
    "shapes-conv",
    "model.name",
    causes=["precision-problem"],
    step="overfit",
    changes={"optimizer.name": "adam", "optimizer.lr": 1e-3, "optimizer.momentum": None, "optimizer.fused": False},
    twin={"optimizer.name": "adam", "optimizer.lr": 1e-3, "optimizer.momentum": None},
    source="https://discuss.pytorch.org/t/adam-half-precision-nans/1765",
)
def model_halved_for_adam(input_shape, num_classes, width, depth, batch_norm):
    """The whole model is cast to float16 and trained with Adam, whose epsilon of 1e-8 is zero there."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(input_shape[0], width, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(width, 2 * width, 3, padding=1),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(2 * width, num_classes),
            ).half()

        def forward(self, x):
            return self.net(x.half()).float()

    return Net()


@bug("digits-mlp", "train.step", causes=["precision-problem"], step="check-init")
def quantised_without_a_master_copy(model, batch, loss, optimizer):
    """The weights are rounded to multiples of 1/64 after each update, and no exact copy is kept: most of it is lost."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    with torch.no_grad():
        for item in model.parameters():
            item.copy_((item * 64).round() / 64)
    return value


state = {}  # of the steps above; a user's file is imported from scratch for each trial
