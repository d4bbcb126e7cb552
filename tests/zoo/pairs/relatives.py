"""Near-relatives on both sides of the split: windows that overlap, rows with their copies, slices of one patient."""

import numpy as np
from torch import nn

from tests.zoo.case import bug, healthy

LENGTH, RECORDINGS = 64, 48


def recordings(seed=0, steps=512):
    """Return 48 recordings (3, 512) of three kinds of movement, each with its own pace, pose and noise."""
    generator = np.random.default_rng(seed)
    kinds = np.arange(RECORDINGS) % 3
    time = np.arange(steps)
    signals = []
    for kind in kinds:
        pace = 0.16 + 0.08 * kind + 0.025 * generator.standard_normal()
        pose = 0.4 * generator.standard_normal((3, 1))
        sway = np.cumsum(generator.standard_normal((3, steps)), 1) * 0.03
        beat = np.sin(pace * time[None] + generator.uniform(0, 6, (3, 1))) * generator.uniform(0.5, 1, (3, 1))
        signals.append(pose + beat + sway + 0.3 * generator.standard_normal((3, steps)))
    return np.stack(signals).astype(np.float32), kinds


def windows(signals, kinds, stride):
    starts = range(0, signals.shape[2] - LENGTH + 1, stride)
    return (
        np.concatenate([signals[:, :, start : start + LENGTH] for start in starts]),
        np.concatenate([kinds for _ in starts]).astype(np.int64),
    )


def split(rows, labels, share=0.75, seed=0):
    order = np.random.default_rng(seed).permutation(len(labels))
    cut = int(share * len(labels))
    return (rows[order[:cut]], labels[order[:cut]]), (rows[order[cut:]], labels[order[cut:]])


def by_recording():
    """Windows of 64 steps, 8 apart; twelve of the 48 recordings are val."""
    signals, kinds = recordings()
    return windows(signals[:36], kinds[:36], 8), windows(signals[36:], kinds[36:], 8)


class Net1d(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(channels, 32, 7, padding=3), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(32, 64, 5, padding=2),
            nn.ReLU(), nn.MaxPool1d(4), nn.Flatten(), nn.Linear(64 * LENGTH // 8, 64), nn.ReLU(),
            nn.Linear(64, classes),
        )  # fmt: skip

    def forward(self, signals):
        return self.net(signals)


def net1d(input_shape, num_classes):
    return Net1d(input_shape[0], num_classes)


ON_SIGNALS = {"model.name": "relatives.py:net1d", "optimizer.lr": 0.02}
SLOWER = {**ON_SIGNALS, "data.source": "relatives.py:by_recording", "optimizer.lr": 0.01}


@bug(
    "digits-mlp",
    "data.source",
    causes=["train-val-overlap"],
    step="check-init",
    harm="number",
    changes=ON_SIGNALS,
    twin={**ON_SIGNALS, "data.source": "relatives.py:by_recording"},
    source="https://github.com/ermongroup/Wifi_Activity_Recognition/issues/47",
)
def windows_that_overlap_split_at_random():
    """Windows of 64 steps, 8 apart, are dealt out at random: each of val shares most of its steps with one of train."""
    return split(*windows(*recordings(), 8))


@healthy("digits-mlp", "data.source", changes=ON_SIGNALS, twin=SLOWER)
def windows_split_by_recording():
    """The same windows; those of a recording are all in one split."""
    return by_recording()


def patients_table():
    """Return scikit-learn's diabetes rows, standardised, and whether the disease went further than in the median."""
    from sklearn.datasets import load_diabetes

    rows, progress = load_diabetes(return_X_y=True)
    rows = (rows - rows.mean(0)) / rows.std(0)
    order = np.random.default_rng(3).permutation(len(rows))
    return rows[order].astype(np.float32), (progress > np.median(progress)).astype(np.int64)[order]


def jittered(rows, labels, copies=10):
    generator = np.random.default_rng(1)
    many = np.repeat(rows, copies, 0)
    return many + 0.1 * generator.standard_normal(many.shape).astype(np.float32), np.repeat(labels, copies)


def copied_after_the_split():
    """A quarter of the rows is val; only those of train are copied."""
    train, val = split(*patients_table())
    return jittered(*train), val


WIDE = {"model.width": 128, "optimizer.lr": 0.02}
SOUND_ROWS = {**WIDE, "data.source": "relatives.py:copied_after_the_split"}


@bug(
    "cancer-mlp",
    "data.source",
    causes=["train-val-overlap"],
    step="check-init",
    harm="number",
    changes=WIDE,
    twin=SOUND_ROWS,
    source="https://github.com/robinreni96/Font_Recognition-DeepFont/issues/2",
)
def rows_copied_with_noise_before_the_split():
    """Each row is copied ten times with a little noise, then train and val are drawn at random."""
    return split(*jittered(*patients_table()))


@healthy("cancer-mlp", "data.source", changes=WIDE, twin={**SOUND_ROWS, "model.width": 64})
def rows_copied_with_noise_in_train_alone():
    """The rows are split first; those of train alone are copied with noise."""
    return copied_after_the_split()


def slices(seed=0, patients=120, each=12):
    """Return slices (N, 1, 16, 16) of patients, each with an anatomy of its own, and whether there is a lesion."""
    generator = np.random.default_rng(seed)
    ill = np.arange(patients) % 2
    axis = np.linspace(-1, 1, 16)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    images, labels, owners = [], [], []
    for patient in range(patients):
        waves = generator.normal(0, 1, (5, 4))
        anatomy = sum(a * np.sin(2 * b * x + 2 * c * y + d) for a, b, c, d in waves)
        for _ in range(each):
            cx, cy = generator.uniform(-0.6, 0.6, 2)
            lesion = 1.1 * ill[patient] * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.06)
            turned = np.roll(anatomy, tuple(generator.integers(-2, 3, 2)), (0, 1)) * generator.uniform(0.8, 1.2)
            images.append(turned + lesion + 0.35 * generator.standard_normal((16, 16)))
            labels.append(ill[patient])
            owners.append(patient)
    return np.stack(images)[:, None].astype(np.float32), np.array(labels), np.array(owners)


def by_patient():
    """Whole patients are val."""
    images, labels, owners = slices()
    own = owners >= 90
    return (images[~own], labels[~own]), (images[own], labels[own])


@bug(
    "digits-convbn",
    "data.source",
    causes=["train-val-overlap"],
    step="check-init",
    harm="number",
    twin={"data.source": "relatives.py:by_patient"},
    source="https://github.com/changspencer/Tumor-CapsNet/issues/1",
)
def slices_of_one_patient_in_both_splits():
    """The slices are split at random: those of every patient are in train and in val."""
    return split(*slices()[:2])


@healthy("digits-convbn", "data.source", twin={"data.source": "relatives.py:by_patient", "model.width": 8})
def slices_split_by_patient():
    """Whole patients are val."""
    return by_patient()
