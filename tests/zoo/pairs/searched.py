"""Recipes whose own value was the fault, which the search cures, beside one that the search cannot better."""

from torch.nn import functional

from tests.zoo.case import bug, healthy


def smoothed(outputs, targets, smoothing=0.0):
    """Cross-entropy with label smoothing."""
    return functional.cross_entropy(outputs, targets, label_smoothing=smoothing)


def margin(outputs, targets, margin=1.0):
    """The hinge loss of each class against the true one."""
    return functional.multi_margin_loss(outputs, targets, margin=margin)


bug(
    "shapes-conv",
    name="decay_of_a_third_cured_by_the_search",
    causes=["over-regularised"],
    step="fine",
    changes={
        "optimizer.weight_decay": 0.3,
        "search.optimizer.weight_decay": {"choices": [0.0, 0.3, 1e-4]},
        "stages.coarse.trials": 6,
    },
    what="The recipe's weight decay of 0.3 stops all learning; the search finds a value that does not.",
)
bug(
    "digits-mlp",
    name="dropout_of_most_cured_by_the_search",
    causes=["over-regularised"],
    step="fine",
    changes={"model.dropout": 0.93, "search.model.dropout": {"choices": [0.0, 0.93, 0.2]}, "stages.coarse.trials": 6},
    what="The recipe drops 93 of 100 units; the search finds a share that trains.",
)
bug(
    "digits-conv",
    name="rate_cured_by_the_search",
    causes=["lr-too-low"],
    step="lr-sweep",
    changes={"optimizer.lr": 1e-5},
    what="The recipe's rate is ten thousand times too low; the search leaves it behind.",
    source="https://github.com/omoindrot/tensorflow-triplet-loss/issues/15",
)
healthy(
    "digits-mlp",
    name="smoothing_that_the_search_keeps",
    changes={
        "loss.name": "searched.py:smoothed",
        "loss.smoothing": 0.1,
        "search.loss.smoothing": {"choices": [0.0, 0.1, 0.2]},
    },
    what="The recipe's smoothing is as good as any that the search tries.",
)
healthy(
    "digits-mlp",
    name="margin_that_is_searched",
    changes={
        "loss.name": "searched.py:margin",
        "loss.margin": 1.0,
        "search.loss.margin": {"low": 0.3, "high": 3.0, "log": True},
    },
    what="The recipe's margin lies inside what the search tries, and does as well as the best.",
)
