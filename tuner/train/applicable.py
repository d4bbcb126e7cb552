"""Which questions can be asked of a task and of a form of inputs: the others are listed as skipped, with the reason."""

from __future__ import annotations

from tuner.train.setup import Setup

# about one class per example: what a label says, who is right, how classes are shared out
OF_CLASSES = frozenset(
    {"class_shares", "labels_fit", "labels_shifted", "single_features", "classes_heard", "augmentation", "near_copies",
     "metric", "metric_check", "label_order",
     "splits_compared", "user_metric"}
)  # fmt: skip
# of these what an identity says as well as a class: they ask train alone, or whether labels of like inputs agree
OF_IDENTITIES = frozenset({"augmentation", "near_copies", "label_order"})
OF_OWN_TARGET = frozenset({"loss_function", "loss_calls", "unheard_mistakes"})  # about an output and its own target
OF_BUILDING = frozenset({"seeds"})  # about building the model again, which only a recipe can
# can be asked whatever the inputs are; every other question changes or measures inputs that are one tensor
OF_ANY_INPUT = frozenset(
    {"initial_loss", "loss_function", "one_step", "fresh_gradients", "gradient_seen", "weight_decay", "planned_rates",
     "class_shares", "classes_heard", "schedule", "decay", "targets_in_sight", "repeated_layers"}
)  # fmt: skip


def why_not(setup: Setup, name: str) -> str | None:
    """Return why a measurement cannot be made here; None where it can."""
    if name in OF_BUILDING and getattr(setup, "objects", None) is not None:
        return "the model was handed over as it is: no seed draws its weights again"
    task = getattr(setup.data, "task", None)
    identities = task is not None and task.noun == "identity" and name in OF_IDENTITIES
    if task is not None and name in OF_CLASSES and not setup.data.one_class_each and not identities:
        here = "every position has a class" if task.noun == "class" else f"the task is {task.name}"
        return f"it is about one class per example, and {here}"
    if task is not None and task.noun == "identity" and name in OF_OWN_TARGET:
        return "it asks the loss about one output and its target, and here examples are compared with each other"
    if not getattr(setup.data, "is_one", True) and name not in OF_ANY_INPUT:
        return "it asks about inputs that are one tensor of one shape"
    return None
