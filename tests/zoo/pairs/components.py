"""Sound programs made of tuner's own components, each used as it is meant to be."""

import numpy as np

from tests.zoo.arrays import digits
from tests.zoo.case import healthy
from tests.zoo.prepared import TEACHER, TURNED, UNLABELLED


def rare_ones():
    """Return the digits with a sixth of the images of 0 to 4 in train; val is balanced: uint8 (N, 1, 8, 8)."""
    (x, y), val = digits()
    kept = (y > 4) | (np.arange(len(y)) % 6 == 0)
    return (x[kept], y[kept]), val


RARE = {"data.source": "components.py:rare_ones", "data.normalize": "standardize"}

healthy(
    "digits-convbn",
    name="mixup_of_the_parts",
    changes={"data.augment": ["mixup"]},
    what="Each image is mixed with a partner, labels too (data.augment mixup).",
)
healthy(
    "shapes-convbn",
    name="cutmix_of_the_parts",
    changes={"data.augment": ["cutmix"]},
    what="A box of a partner is pasted in, the labels are shared as the areas.",
)
healthy(
    "digits-mlp",
    name="mixup_beside_smoothing",
    changes={"data.augment": [{"name": "mixup", "alpha": 0.1}], "loss.label_smoothing": 0.1},
    what="mixup with alpha 0.1 and label smoothing 0.1.",
)
healthy(
    "shapes-convbn",
    name="erasing_and_small_turns",
    changes={"data.augment": [{"name": "erasing", "p": 0.3}, {"name": "rotate", "degrees": 8.0}]},
    what="Random erasing, small turns and shifts.",
)
healthy(
    "shapes-convbn",
    name="trivialaugment_of_shapes",
    changes={"data.augment": ["trivialaugment"]},
    what="One of 14 operations for each image.",
)
healthy(
    "digits-convbn",
    name="multi_scale_batches",
    changes={"data.augment": ["multi_scale"]},
    what="Batches at 0.75, 1 and 1.25 times the size.",
)
healthy(
    "digits-convbn",
    name="ema_of_the_parts",
    changes={"train.ema": 0.98},
    what="An exponential average of weights and statistics is evaluated.",
)
healthy(
    "digits-convbn",
    name="swa_with_statistics_taken_again",
    changes={"train.swa": 0.5},
    what="The weights of the second half are averaged, batch norm's statistics are taken again.",
)
healthy(
    "digits-mlp",
    name="snapshots_over_restarts",
    changes={
        "schedule.name": "cosine_restarts",
        "schedule.period_epochs": 4.0,
        "train.snapshots": 2,
        "after.ensemble": "snapshots",
        "after.stacking": True,
    },
    what="Cosine with restarts, a snapshot at the end of each cycle; their answers are averaged and stacked.",
)
healthy(
    "digits-convbn",
    name="answers_over_shifted_views",
    changes={"after.tta": ["shifts"]},
    what="Answers are averaged over shifted views when training has ended.",
)
healthy(
    "digits-convbn",
    name="frozen_body_new_head",
    changes={"finetune.weights": TURNED, "finetune.way": "head"},
    what="A new head on the frozen body of a net of turned digits.",
)
healthy(
    "digits-convbn",
    name="first_block_frozen",
    changes={"finetune.weights": TURNED, "finetune.way": "last-blocks"},
    what="The first block of a net of turned digits is frozen, the rest trained.",
)
healthy(
    "digits-convbn",
    name="frozen_body_released_later",
    changes={"finetune.weights": TURNED, "finetune.way": "head", "finetune.release_epoch": 2},
    what="The body is frozen for two epochs, then released.",
)
healthy(
    "digits-convbn",
    name="body_at_a_tenth_of_the_rate",
    changes={"finetune.weights": TURNED, "finetune.way": "discriminative"},
    what="All of a net of turned digits is trained, its body at a tenth of the rate.",
)
healthy(
    "digits-convbn",
    name="all_of_a_trained_net",
    changes={"finetune.weights": TURNED, "finetune.way": "all", "optimizer.lr": 0.01},
    what="All of a net of turned digits is trained at a small rate.",
)
healthy(
    "digits-mlp",
    name="arcface_on_cosines",
    changes={"loss.name": "arcface", "loss.m": 0.2, "model.head": "cosine"},
    what="ArcFace with a scale of 16 and a margin of 0.2 on a cosine head.",
)
healthy(
    "digits-mlp",
    name="cosface_on_cosines",
    changes={"loss.name": "cosface", "loss.s": 10.0, "loss.m": 0.2, "model.head": "cosine"},
    what="CosFace with a scale of 10 and a margin of 0.2 on a cosine head.",
)
healthy(
    "digits-mlp",
    name="center_loss_beside_softmax",
    changes={"loss": [{"name": "cross_entropy"}, {"name": "center", "factor": 0.01}]},
    what="Features are drawn to their class's centre, a little.",
)
healthy(
    "digits-convbn",
    name="triplets_beside_softmax",
    changes={"loss": [{"name": "cross_entropy"}, {"name": "triplet", "factor": 0.5}], "data.sampler": "by_class"},
    what="Batch-hard triplets beside cross-entropy, in batches that hold partners.",
)
healthy(
    "digits-convbn",
    name="rare_classes_drawn_as_often",
    changes={**RARE, "data.sampler": "balanced"},
    twin=RARE,
    what="Classes of different size in train, drawn equally often.",
)
healthy(
    "digits-mlp",
    name="rare_classes_weigh_more",
    changes={**RARE, "loss.weight": "balanced"},
    twin=RARE,
    what="Classes of different size in train, weighed by the loss.",
)
healthy(
    "digits-convbn",
    name="focal_loss_of_rare_classes",
    changes={**RARE, "loss.name": "focal"},
    twin=RARE,
    what="Focal loss on classes of different size.",
)
healthy(
    "digits-mlp",
    name="head_that_starts_at_the_shares",
    changes={**RARE, "model.init": "prior_head"},
    twin=RARE,
    what="Classes of different size; the head's biases start at the logarithm of their shares.",
)
healthy(
    "digits-mlp",
    name="hard_half_of_each_batch",
    changes={"loss.name": "ohem"},
    what="The loss is the mean of the hardest half of the batch.",
)
healthy(
    "digits-mlp",
    name="hinge_loss_of_classes",
    changes={"loss.name": "multi_margin"},
    what="The multi-class hinge loss.",
)
healthy(
    "digits-mlp",
    name="learnt_from_a_teacher",
    changes={"teacher.distill": TEACHER, "teacher.model": {"name": "mlp", "width": 256, "depth": 2}},
    what="A wider net's softened answers are learnt beside the labels.",
)
healthy(
    "digits-convbn",
    name="meets_its_own_average",
    changes={"teacher.mean_teacher": 0.98, "teacher.weight": 1.0},
    what="A mean teacher: the model is to agree with an average of itself.",
)
healthy(
    "digits-mlp",
    name="sure_answers_are_labels",
    changes={"teacher.pseudo_labels": 0.95, "teacher.unlabelled": UNLABELLED, "teacher.weight": 0.3},
    what="Answers of at least 0.95 on examples without labels count as labels.",
)
healthy(
    "digits-mlp",
    name="sam_around_sgd",
    changes={"optimizer.name": "sam"},
    what="Sharpness-aware minimisation around SGD.",
)
healthy(
    "digits-mlp",
    name="lookahead_around_adamw",
    changes={"optimizer.name": "lookahead", "optimizer.lr": 0.002, "optimizer.momentum": None},
    what="Lookahead around AdamW.",
)
healthy(
    "digits-mlp",
    name="adam_that_turns_into_sgd",
    changes={"optimizer.name": "swats", "optimizer.lr": 0.002, "optimizer.momentum": None},
    what="SWATS: Adam at first, SGD from where its rate has settled.",
)
healthy(
    "digits-mlp",
    name="muon_for_hidden_matrices",
    changes={"optimizer.name": "muon", "optimizer.lr": 0.02},
    what="Muon for the hidden layers, AdamW for the rest.",
)
healthy(
    "digits-conv",
    name="updates_of_two_batches",
    changes={"train.accumulate": 2, "train.batch_size": 32},
    what="An update for two batches of 32.",
)
healthy(
    "digits-convbn",
    name="no_decay_on_norms_and_slower_first_layers",
    changes={
        "optimizer.name": "adamw",
        "optimizer.lr": 0.003,
        "optimizer.momentum": None,
        "optimizer.weight_decay": 0.05,
        "optimizer.groups": ["no_decay_on_norms", {"name": "layer_decay", "factor": 0.8}],
    },
    what="AdamW without decay of norms, rates that fall towards the input.",
)
healthy(
    "shapes-resnet",
    name="stochastic_depth_and_drop_block",
    changes={"model.stochastic_depth": 0.1, "model.drop_block": {"p": 0.05}},
    what="Blocks are skipped, squares are blanked, a little.",
)
healthy(
    "digits-mlp",
    name="drop_connect_and_short_weights",
    changes={"model.drop_connect": 0.2, "train.max_norm": 3.0},
    what="Weights are dropped, and shortened where they are longer than 3.",
)
healthy(
    "digits-conv",
    name="warm_up_hold_and_cosine",
    changes={"schedule.name": "cosine", "schedule.warmup_epochs": 0.5, "schedule.hold_epochs": 0.5},
    what="Warm-up, hold, then a cosine.",
)
healthy(
    "digits-mlp",
    name="warm_up_stable_decay",
    changes={"schedule.name": "wsd", "train.l1": 1e-06, "train.patience": 5},
    what="WSD with patience and a small L1 penalty.",
)
healthy(
    "shapes-resnet",
    name="fixup_without_normalisation",
    changes={"model.norm": "none", "model.init": "fixup", "train.clip_norm": 1.0},
    twin={"model.norm": "none", "train.clip_norm": 1.0},
    what="A residual net without normalisation, begun by Fixup, clipped at 1.",
)
healthy(
    "shapes-resnet",
    name="ibn_blocks_and_gem",
    changes={"model.norm": "ibn", "model.global_pool": "gem"},
    what="Half of the channels are normalised within the image, powers are averaged.",
)
healthy(
    "digits-convbn",
    name="bnneck_and_dual_pooling",
    changes={"model.global_pool": "dual", "model.head": "bnneck"},
    what="Average and largest pixel, normalised before a head without bias.",
)
healthy(
    "digits-mlp",
    name="maxout_with_dropout",
    changes={"model.activation": "maxout", "model.dropout": 0.2},
    what="Maxout units with dropout.",
)
healthy(
    "digits-mlp",
    name="lsuv_for_deep_tanh",
    changes={"model.activation": "tanh", "model.depth": 4, "model.init": "lsuv"},
    what="Four hidden layers of tanh, begun by LSUV.",
)
