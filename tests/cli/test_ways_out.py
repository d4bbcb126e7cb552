"""Messages say what was found and what works."""

import pytest

from tests.cli.test_bad_input import MODEL
from tests.conftest import RECIPE, refused

DATASET = """
import torch
from torch import nn

X = torch.rand(60, 4)
class D(torch.utils.data.Dataset):
    def __len__(self): return 60
    def __getitem__(self, i): return {item}
def load(): return D(), None
"""
IMAGES = "import torch\nX = torch.rand(40, 1, 32, 32)\nY = torch.arange(40) % 4\ndef load(): return (X, Y), None\n"


def check(command, tmp_path, code, *sets):
    (tmp_path / "small.toml").write_text(RECIPE)
    (tmp_path / "u.py").write_text(code)
    given = (part for text in ("train.batch_size=8", *sets) for part in ("--set", text))
    return command("check-init", "small.toml", "--dry-run", *given)


@pytest.mark.parametrize("item", ["(X[i], i % 2, i, 3)", "{'a': X[i], 'b': i % 2}", "X[i]"])
def test_an_item_that_is_no_pair_is_told_what_to_return(command, tmp_path, item):
    done = check(command, tmp_path, DATASET.format(item=item), "data={source='u.py:load'}")
    refused(done, 2, "train[0] must be (input, target), it is ", "hint: Return two things")


def test_grey_images_for_a_model_of_colour_are_told_both_ways(command, tmp_path):
    model = "model={name='torchvision.models.squeezenet1_1'}"
    done = check(command, tmp_path, IMAGES, "data={source='u.py:load'}", model)
    refused(done, 2, "takes 3 channels, the data has 1", "in_chans = 1", "repeats the channels")


def test_a_file_of_weights_is_sent_to_finetune(command, tmp_path):
    done = check(command, tmp_path, "", "model={name='torchvision.models.resnet18', weights='resnet18.pt'}")
    refused(
        done,
        2,
        "model.weights: 'resnet18.pt' is a file",
        'hint: Such as "DEFAULT"',
        "[finetune] weights = 'resnet18.pt'",
    )


def test_a_recipe_beside_the_terminal_is_proposed_with_its_ending(command, tmp_path):
    (tmp_path / "pets.toml").write_text(RECIPE)
    for name in ("pets", "pet"):
        refused(
            command("run", name),
            2,
            f"{name}: no such recipe",
            "A file of this folder is given with its ending: pets.toml",
        )
    refused(command("run", "p" * 5000), 2, "no such recipe")


def test_an_unknown_code_is_told_the_families_of_codes(command):
    done = command("explain", "XX")
    assert done.code == 2 and "LR301 to LR3" in done.err and "codes)" in done.err and len(done.err) < 600


def test_a_wrong_image_size_is_told_by_the_model(command, tmp_path):
    model = MODEL.format(body="assert x.shape[-1] == 224, f'wrong size {x.shape[-1]}'")
    code = IMAGES + "from torch import nn\n" + model
    done = check(command, tmp_path, code, "data={source='u.py:load'}", "model={name='u.py:build'}")
    refused(done, 4, "AssertionError: wrong size 32")
