"""Data from the user's own file."""

import hashlib
import struct
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from tuner.core.cached import entries
from tuner.core.errors import InputError, UsageError, UserCodeError
from tuner.core.trial import TrialEnv
from tuner.train import userdata
from tuner.train.data import Data, load_data

DATASET = """
import random
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

class Squares(Dataset):
    classes = ["even", "odd"]
    reads = []

    def __init__(self, n=40, noise=0.0, broken=None, shape=(3,)):
        self.n, self.noise, self.broken, self.shape = n, noise, broken, shape

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        Squares.reads.append(i)
        if i == self.broken:
            raise KeyError(f"no file {i}")
        return torch.full(self.shape, float(i)) + self.noise * torch.rand(self.shape), i % 2

def arrays(n=40):
    return np.arange(n, dtype=np.float64)[:, None].repeat(3, 1), np.arange(n) % 2
"""


def load(folder: Path, body: str, with_test: bool = False, **table) -> Data:
    """Load from a file whose load() has this body."""
    text = DATASET + "\ndef load(**args):\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n"
    (folder / "my_data.py").write_text(text)
    return load_data({"data": {"source": "my_data.py:load", **table}}, TrialEnv(folder, cache_dir=folder), with_test)


def who(inputs: torch.Tensor) -> list[int]:
    return [int(value) for value in inputs.flatten(1)[:, 0]]


PAIRS = {
    "arrays": "return arrays(40), arrays(10)",
    "tensors": "return tuple(map(torch.as_tensor, arrays(40))), tuple(map(torch.as_tensor, arrays(10)))",
    "tensor data sets": "return tuple(TensorDataset(*map(torch.as_tensor, arrays(n))) for n in (40, 10))",
    "lists": "return [list(arrays(40)), list(arrays(10))]",
    "data sets": "return Squares(40), Squares(10)",
    "examples": "return [(np.full(3, i), i % 2) for i in range(40)], [(np.full(3, i), i % 2) for i in range(10)]",
}


@pytest.mark.parametrize("kind", PAIRS)
def test_every_documented_return_gives_the_same_batches(tmp_path, kind):
    data = load(tmp_path, PAIRS[kind])
    assert (data.size("train"), data.size("val"), data.size("test")) == (40, 10, 0)
    assert data.num_classes == 2 and data.input_shape == (3,) and not data.stochastic
    seen = []
    for inputs, targets in data.epoch(0, 1, 16):
        assert inputs.dtype == (torch.int64 if kind == "examples" else torch.float32) and targets.dtype == torch.int64
        assert [i % 2 for i in who(inputs)] == targets.tolist()
        seen += who(inputs)
    assert sorted(seen) == list(range(40))
    assert data.describe("val", 3) == "val[3]"


def test_normalisation_of_user_data_is_none_unless_asked_for(tmp_path):
    raw = load(tmp_path, "return arrays(40), arrays(10)")
    assert who(next(iter(raw.batches("val", 10)))[0]) == list(range(10))
    for body in ("return arrays(40), arrays(10)", "return Squares(40), Squares(10)"):
        data = load(tmp_path, body, normalize="standardize")
        train = torch.cat([inputs for inputs, _ in data.batches("train", 16)])
        assert torch.allclose(train.mean(0), torch.zeros(3), atol=1e-5)
        assert torch.allclose(train.std(0, correction=0), torch.ones(3), atol=1e-5)


def test_images_of_a_data_set_come_channels_last(tmp_path):
    data = load(tmp_path, "return Squares(20, shape=(3, 5, 4)), Squares(6, shape=(3, 5, 4))")
    inputs, _ = next(data.epoch(0, 1, 8))
    assert inputs.shape == (8, 3, 5, 4) and inputs.is_contiguous(memory_format=torch.channels_last)
    data = load(tmp_path, "x, y = np.random.rand(20, 3, 5, 4), np.arange(20) % 2\nreturn (x, y), (x, y)")
    batch = next(iter(data.batches("val", 20)))[0]
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, data.inputs("val"))


def test_without_val_both_splits_are_cut_and_the_rest_is_train(tmp_path):
    for body in ("return arrays(40), None", "return Squares(40), None"):
        data = load(tmp_path, body, with_test=True)
        sizes = [data.size(split) for split in ("train", "val", "test")]
        assert sizes == [26, 6, 8]
        members = [i for split in ("train", "val", "test") for i in who(data.inputs(split))]
        assert sorted(members) == list(range(40))


def test_with_train_and_val_there_is_no_test_split(tmp_path):
    with pytest.raises(InputError, match=r"returned \(train, val\): there is no test split"):
        load(tmp_path, "return arrays(40), arrays(10)", with_test=True)
    assert load(tmp_path, "return arrays(40), None, arrays(8)").size("test") == 8


def test_test_examples_are_not_read_unless_asked_for(tmp_path):
    body = "return Squares(40), Squares(10), Squares(6, broken=2)"
    assert load(tmp_path, body).size("test") == 6
    with pytest.raises(UserCodeError, match=r"test\[2\] raised KeyError"):
        load(tmp_path, body, with_test=True)


def test_a_subset_of_tensors_keeps_its_order(tmp_path):
    data = load(
        tmp_path,
        "d = TensorDataset(*map(torch.as_tensor, arrays()))\nreturn Subset(d, range(30)), Subset(d, [31, 39, 34])",
    )
    assert who(data.inputs("val")) == [31, 39, 34]


def test_class_names_of_a_data_set_are_used(tmp_path):
    assert load(tmp_path, "return Squares(40), Squares(10)").class_names == ("even", "odd")
    assert load(tmp_path, "return arrays(), arrays(10)").class_names == ("0", "1")


def test_random_numbers_in_load_are_the_same_in_every_trial_and_leave_no_trace(tmp_path):
    body = """
        order = np.random.permutation(40)
        x, y = arrays()
        x = x + torch.rand(1).item() + random.random()
        return (x[order[:30]], y[order[:30]]), (x[order[30:]], y[order[30:]])
    """
    torch.manual_seed(1)
    wanted = torch.rand(2)
    torch.manual_seed(1)
    once = load(tmp_path, body).inputs("val")
    assert torch.equal(torch.rand(2), wanted)
    np.random.seed(7)
    assert torch.equal(once, load(tmp_path, body).inputs("val"))


# --- data sets that stream -----------------------------------------------------------------------------------


def test_labels_of_a_data_set_are_read_once_and_inputs_when_needed(tmp_path):
    data = load(tmp_path, "return Squares(200), Squares(50)")
    dataset = data.part("train").store.dataset
    type(dataset).reads.clear()
    next(data.epoch(0, 1, 8))
    assert len(type(dataset).reads) == 8
    again = load(tmp_path, "return Squares(200), Squares(50)")
    assert len(reads_of(again)) < 100  # only the probes, not all 250


def test_labels_are_read_again_when_the_users_file_changes(tmp_path):
    load(tmp_path, "return Squares(40), Squares(10)")
    body = """
        class Other(Squares):
            def __getitem__(self, i):
                return torch.zeros(3), 2 * (i % 2)
        return Other(40), Other(10)
    """
    changed = load(tmp_path, body)
    assert set(changed.targets("train").tolist()) == {0, 2}


LARGE = "return Squares(3000), Squares(50)"


def reads_of(data: Data) -> list[int]:
    return type(data.part("train").store.dataset).reads


def test_labels_of_a_large_data_set_are_kept_for_the_next_process(tmp_path):
    first = load(tmp_path, LARGE)
    reads_of(first).clear()
    userdata._labels.clear()  # as in a process of its own
    again = load(tmp_path, LARGE)
    assert len(reads_of(again)) < 300
    assert torch.equal(again.targets("train"), first.targets("train"))
    assert [entry.source.split()[0] for entry in entries(tmp_path) if entry.kind == "decoded"] == ["labels"]


def test_what_makes_a_data_set_another_is_the_same_in_every_process():
    values = torch.arange(6.0)
    expected = hashlib.blake2b(struct.pack("6f", *range(6)), digest_size=8).hexdigest()
    assert userdata._print_of(values.reshape(2, 3)) == expected


def test_labels_in_the_cache_that_are_not_those_of_the_examples_are_read_again(tmp_path):
    body = """
        class Other(Squares):
            def __getitem__(self, i):
                return torch.zeros(3), int((self.folder / "label.txt").read_text()) * (i % 7 == 0) + i % 2
        Other.folder = __import__("pathlib").Path(__file__).parent
        return Other(3000), Other(50)
    """
    (tmp_path / "label.txt").write_text("2")
    before = load(tmp_path, body).targets("train")
    path = next((tmp_path / "decoded").glob("labels-*.npy"))
    wrong = np.load(path) + 2
    np.save(path, wrong)
    userdata._labels.clear()
    assert torch.equal(load(tmp_path, body).targets("train"), before)


def test_a_data_set_is_held_when_cache_is_true(tmp_path):
    data = load(tmp_path, "return Squares(40), Squares(10)", cache=True)
    streamed = load(tmp_path, "return Squares(40), Squares(10)")
    reads = type(streamed.part("train").store.dataset).reads
    reads.clear()
    assert epoch_of(data) == epoch_of(streamed)
    assert len(reads) == 40


def epoch_of(data: Data) -> list[int]:
    return [i for inputs, _ in data.epoch(3, 1, 16) for i in who(inputs)]


def test_a_stochastic_data_set_is_noticed_and_its_gap_is_skipped(tmp_path):
    data = load(tmp_path, "return Squares(40, noise=0.5), Squares(10)")
    assert data.stochastic
    assert [skipped.check for skipped in data.skipped] == ["gap between train and val"]
    assert "two reads of one train example differ" in data.skipped[0].why
    val = load(tmp_path, "return Squares(40), Squares(10, noise=0.5)")
    assert not val.stochastic and [skipped.check for skipped in val.skipped] == ["repeatable evaluation"]


def test_a_stochastic_data_set_without_val_is_an_error_that_names_the_fix(tmp_path):
    with pytest.raises(UsageError, match=r"two reads of one train example differ, and val is None") as error:
        load(tmp_path, "return Squares(40, noise=0.5), None")
    assert "Return (train, val) yourself" in error.value.hint


def test_a_stochastic_data_set_is_not_cached(tmp_path):
    with pytest.raises(UsageError, match=r"data.cache: true, but two reads of one example differ"):
        load(tmp_path, "return Squares(40, noise=0.5), Squares(10)", cache=True)


def test_a_data_set_with_missing_numbers_is_not_stochastic(tmp_path):
    body = """
        class Holes(Squares):
            def __getitem__(self, i):
                return torch.tensor([float("nan"), float(i)]), i % 2
        return Holes(40), None
    """
    assert not load(tmp_path, body).stochastic


# --- what cannot be used -------------------------------------------------------------------------------------


def test_an_error_in_getitem_names_the_index_and_the_users_line(tmp_path):
    with pytest.raises(UserCodeError, match=r"my_data.py:\d+: .*my_data.py:load: train\[17\] raised KeyError"):
        load(tmp_path, "return Squares(40, broken=17), Squares(10)")


def test_an_error_in_getitem_while_training_names_the_index(tmp_path):
    data = load(tmp_path, "return Squares(40), Squares(10)")
    data.part("train").store.dataset.broken = 5
    with pytest.raises(UserCodeError, match=r"train\[5\] raised KeyError: 'no file 5'"):
        list(data.epoch(0, 1, 8))


def test_an_error_in_load_shows_the_users_line(tmp_path):
    with pytest.raises(UserCodeError, match=r"my_data.py:\d+: .* raised FileNotFoundError"):
        load(tmp_path, "return open('/no/such/file')")


SENTENCES = {
    "return arrays()": "returned one pair of arrays, not splits",
    "return 5": "returned int 5",
    "return (1,)": "returned a tuple of 1",
    "return None, arrays()": "returned None for train",
    "class It(IterableDataset):\n    __iter__ = None\nreturn It(), None": "an IterableDataset of unknown length",
    "return Squares(0), None": "train is empty",
    "return (np.zeros((0, 3)), np.zeros(0, int)), None": "train is empty",
    "return 'train', 'val'": "train is str 'train', not a Dataset",
    "x, y = arrays()\nreturn (x, y[:-1]), None": "40 inputs but 39 targets",
    "x, y = arrays()\nreturn (x, y * 1.0), None": "targets are real numbers .float64.",
    "x, y = arrays()\nreturn (x, np.eye(2)[y]), None": r"shape \(40, 2\), which looks one-hot or multi-hot",
    "x, y = arrays()\nreturn (x, np.array(['a', 'b'])[y]), None": "the targets are not numbers",
    "x, y = arrays()\nreturn (x.astype(str), y), None": "the inputs must be numbers",
    "return arrays(), (np.zeros((4, 5)), np.arange(4) % 2)": r"val has inputs of shape \(5,\), train of \(3,\)",
    "x, y = arrays()\nreturn (x[:, 0], y), None": "train has one number per example, not a row of them",
    "x, y = arrays()\nreturn (x[:, :0], y), None": r"train has inputs of shape \(0,\): no number in them",
    "return [1, 2, 3], None": r"train\[0\] must be \(input, target\), it is int 1",
    "return [(np.zeros(3), 5.0)] * 9, None": r"train\[0\]: the targets are real numbers",
    "return [(np.zeros(3), np.eye(3)[0])] * 9, None": r"train\[0\]: the targets have shape .*, which looks one-hot",
    "x, y = arrays()\nreturn x[:30], y[:30], x[30:], y[30:]": r"returned a tuple of 4[^$]*return \(x_train, y_train\)",
    "return Squares()": "For one Dataset: return dataset, None",
    "x, y = arrays()\nreturn (x, np.stack([y, 1 - y, y], 1)), None": "can be read in more than one way",
    "return [('text', 1)] * 9, None": r"train\[0\]: the input must be a tensor or an array of numbers",
    "return [(np.zeros(3 + (i == 8)), i % 2) for i in range(9)], None": r"train\[8\] has inputs of shape \(4,\)",
    "from PIL import Image\nreturn [(Image.new('L', (2, 2)), 1)] * 9, None": "the input is a PIL image, not a tensor",
    "return TensorDataset(torch.zeros(3)), None": "a TensorDataset of 1 tensors",
}


@pytest.mark.parametrize("body", SENTENCES)
def test_a_wrong_return_gets_one_sentence(tmp_path, body):
    with pytest.raises(UsageError, match=SENTENCES[body]):
        load(tmp_path, body)


def test_token_numbers_stay_whole(tmp_path):
    data = load(tmp_path, "x = torch.arange(40).view(20, 2)\ny = torch.arange(20) % 2\nreturn (x, y), (x, y)")
    assert next(iter(data.batches("val", 20)))[0].dtype == torch.int64


@pytest.mark.parametrize("kind", ["to(torch.uint16)", "to(torch.int8)", "double()", "half()", "double().to_sparse()"])
def test_other_numbers_become_floats(tmp_path, kind):
    body = f"x = torch.arange(40).view(20, 2).{kind}\ny = torch.arange(20) % 2\nreturn (x, y), (x, y)"
    inputs = next(iter(load(tmp_path, body).batches("val", 20)))[0]
    assert inputs.dtype == torch.float32 and torch.equal(inputs, torch.arange(40).view(20, 2).float())


@pytest.mark.parametrize("kept", ["(x, y)", "[(row, int(label)) for row, label in zip(x, y)]"])
def test_arrays_of_another_machine_are_made_native(tmp_path, kept):
    inputs = next(
        iter(load(tmp_path, f"x, y = arrays()\nx = x.astype('>f8')\nreturn {kept}, {kept}").batches("val", 40))
    )
    assert torch.equal(inputs[0], torch.arange(40.0)[:, None].repeat(1, 3))


def test_targets_of_one_column_and_bools_are_labels(tmp_path):
    data = load(tmp_path, "x, y = arrays()\nreturn (x, y[:, None]), (x, y.astype(bool))")
    assert data.targets("train").tolist() == data.targets("val").tolist() == [i % 2 for i in range(40)]


FORMS = {
    "dictionaries": "return [{'image': np.full(3, i), 'label': i % 2} for i in range(40)], Squares(10)",
    "a loader": "return DataLoader(Squares(40), batch_size=8, shuffle=True), Squares(10)",
    "a dictionary of splits": "return {'train': Squares(40), 'validation': Squares(10)}",
    "lists": "x, y = arrays(40)\nreturn (x.tolist(), y.tolist()), Squares(10)",
    "a stream": """
        class Stream(IterableDataset):
            def __len__(self):
                return 40
            def __iter__(self):
                return iter([(torch.full((3,), float(i)), i % 2) for i in range(40)])
        return Stream(), Squares(10)
    """,
}


@pytest.mark.parametrize("form", FORMS)
def test_data_may_be_handed_over_as(tmp_path, form):
    data = load(tmp_path, FORMS[form])
    assert (data.size("train"), data.size("val")) == (40, 10)
    seen = [(i, t) for x, targets in data.epoch(0, 1, 16) for i, t in zip(who(x), targets.tolist(), strict=True)]
    assert sorted(seen) == [(i, i % 2) for i in range(40)]
    if form == "a stream":
        assert [i for i, _ in seen] == list(range(40))
        assert [entry.check for entry in data.skipped] == ["a new order in every epoch"]
        assert who(data.inputs("train", torch.tensor([7, 3]))) == [7, 3]
    else:
        assert [i for i, _ in seen] != list(range(40))


def test_a_stream_is_split_where_there_is_no_val(tmp_path):
    data = load(tmp_path, FORMS["a stream"].replace("Squares(10)", "None"), with_test=True)
    members = [i for split in ("train", "val", "test") for i in who(data.inputs(split))]
    assert sorted(members) == list(range(40))


def test_a_sampler_of_the_users_own_draws_the_train_examples(tmp_path):
    body = """
        from torch.utils.data import WeightedRandomSampler
        weights = [1.0 if i < 4 else 0.0 for i in range(40)]
        return DataLoader(Squares(40), sampler=WeightedRandomSampler(weights, 12)), Squares(10)
    """
    data = load(tmp_path, body)
    first = epoch = [i for x, _ in data.epoch(0, 1, 4) for i in who(x)]
    assert len(epoch) == 12 and set(epoch) <= {0, 1, 2, 3} and data.steps_per_epoch(4) == 3
    assert first == [i for x, _ in data.epoch(0, 1, 4) for i in who(x)]
    assert first != [i for x, _ in data.epoch(0, 2, 4) for i in who(x)]


COLLATE = """
        class Words(Dataset):
            def __len__(self):
                return 40
            def __getitem__(self, i):
                return torch.arange(1 + i % 3), i % 2
        return Words(), Words()
"""


def test_examples_of_several_lengths_need_a_collate_function_which_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"train\[\d\] has inputs of shape \(\d,\)") as raised:
        load(tmp_path, COLLATE)
    assert 'data.collate = "file.py:name"' in raised.value.hint
    (tmp_path / "pad.py").write_text(
        "import torch\nfrom torch.nn.utils.rnn import pad_sequence\n"
        "def pad(items):\n    x, y = zip(*items)\n"
        "    lengths = torch.tensor([len(a) for a in x])\n"
        "    return {'tokens': pad_sequence(x, batch_first=True), 'lengths': lengths, 'labels': torch.tensor(y)}\n"
    )
    data = load(tmp_path, COLLATE, collate="pad.py:pad")
    inputs, targets = next(data.epoch(0, 1, 8))
    assert inputs["tokens"].shape == (8, int(inputs["lengths"].max())) and targets.shape == (8,)
    assert not data.is_one and not data.is_image


def test_an_input_of_several_tensors_is_one_example(tmp_path):
    data = load(tmp_path, "return [((np.full(3, i), np.ones((1, 2))), i % 2) for i in range(40)], None")
    inputs, targets = next(data.epoch(0, 1, 8))
    assert data.input_shape == ((3,), (1, 2)) and inputs[1].shape == (8, 1, 2) and len(targets) == 8
    with pytest.raises(UsageError, match=r"data\.normalize: an input is several tensors"):
        load(tmp_path, "return [((np.full(3, i), np.ones(2)), i % 2) for i in range(40)], None", normalize="scale")


def test_targets_that_the_dataset_has_at_hand_are_not_read_example_by_example(tmp_path):
    data = load(tmp_path, "s = Squares(1000)\ns.targets = [i % 2 for i in range(1000)]\nreturn s, s")
    assert data.size("train") == 1000 and data.targets("train").tolist()[:3] == [0, 1, 0]
    assert len(data.part("train").store.dataset.reads) < 300


TASKS = {
    "regression": ("return (arrays()[0], arrays()[0][:, 0] / 7), None", {}, (torch.float32, 1, 1)),
    "multilabel": (
        "x, y = arrays()\nreturn (x, np.stack([y, y * 0 + 1, 1 - y], 1)), None",
        {"task": "multilabel"},
        (torch.float32, 2, 3),
    ),
    "positions": (
        "x = np.zeros((40, 1, 4, 4))\nreturn (x, np.arange(640).reshape(40, 4, 4) % 3), None",
        {},
        (torch.int64, 3, 3),
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_targets_of_every_task_are_split_and_batched(tmp_path, name):
    body, table, (dtype, dimensions, outputs) = TASKS[name]
    data = load(tmp_path, body, with_test=True, **table)
    assert [data.size(split) for split in ("train", "val", "test")] == [26, 6, 8]
    _, targets = next(data.epoch(0, 1, 8))
    assert (targets.dtype, targets.ndim, data.num_classes) == (dtype, dimensions, outputs)
