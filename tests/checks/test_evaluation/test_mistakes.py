"""The winner's surest wrong answers on val, with their pictures."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.train.training_cases import make_case
from tuner.checks.tools.mistakes import SHOWN, SIDE, png, surest_mistakes


def pixels(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


class Always(torch.nn.Module):
    """Answers class 0, surer for brighter images."""

    def forward(self, inputs):
        bright = inputs.flatten(1).mean(1)
        return torch.stack([bright, torch.zeros_like(bright), torch.zeros_like(bright)], dim=1)


def test_wrong_answers_come_surest_first_with_their_own_picture(tmp_path):
    setup = make_case(tmp_path, "", {"data.source": "mine.py:images"}).setup()
    found = surest_mistakes(setup, Always())
    inputs, targets = setup.data.inputs("val"), setup.data.targets("val")
    outputs = Always()(setup.data.normalise(inputs)).softmax(1)[:, 0]
    expected = sorted((i for i in range(len(targets)) if targets[i] != 0), key=lambda i: -float(outputs[i]))[:SHOWN]
    assert [entry["place"] for entry in found] == [setup.data.describe("val", i) for i in expected]
    assert [entry["share"] for entry in found] == pytest.approx([float(outputs[i]) for i in expected])
    assert {entry["answer"] for entry in found} == {"0"} and "0" not in {entry["target"] for entry in found}
    assert np.array_equal(pixels(found[0]["png"]), inputs[expected[0]].permute(1, 2, 0).numpy())


def test_rows_of_a_table_have_no_pictures(tmp_path):
    assert surest_mistakes(make_case(tmp_path).setup(), Always()) == []


def test_a_grey_image_of_real_numbers_is_spread_over_the_greys_and_a_large_one_made_smaller():
    image = torch.tensor([[-1.0, 0.0], [1.0, 1.0]])[None]
    assert pixels(png(image)).tolist() == [[0, 127], [255, 255]]
    assert pixels(png(torch.zeros(3, 4 * SIDE, 2 * SIDE, dtype=torch.uint8))).shape == (SIDE, SIDE // 2, 3)
