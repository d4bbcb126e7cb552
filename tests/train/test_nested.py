"""Inputs and outputs of several tensors."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from tuner.train.nested import blanked, hand_over_parts, named_part, parted, scored_part, shape_of, together, values_of

LOGITS = torch.zeros(4, 3)


@dataclass
class ModelOutput:
    loss: torch.Tensor
    logits: torch.Tensor


@pytest.mark.parametrize(
    "outputs",
    [
        LOGITS,
        (LOGITS, torch.ones(4, 8)),
        (torch.tensor(1.0), LOGITS),
        (LOGITS, None),
        {"logits": LOGITS, "hidden": torch.ones(4, 8)},
        {"out": LOGITS, "aux": torch.ones(4, 3)},
        {"scores": LOGITS, "loss": torch.tensor(1.0)},
        ModelOutput(torch.tensor(1.0), LOGITS),
    ],
)
def test_the_scored_part_of_outputs_is_found(outputs):
    assert scored_part(outputs) is LOGITS


def test_a_part_that_cannot_be_identified_is_given_back_whole():
    outputs = {"left": LOGITS, "right": LOGITS}
    assert scored_part(outputs) is outputs


def test_a_part_is_named_by_key_place_or_attribute():
    other = torch.ones(1)
    assert named_part({"a": other, "logits": LOGITS}, "logits") is LOGITS
    assert named_part((other, LOGITS), "1") is LOGITS
    assert named_part(ModelOutput(other, LOGITS), "logits") is LOGITS
    with pytest.raises(KeyError):
        named_part((other, LOGITS), "2")


def test_an_item_is_parted_into_inputs_and_target():
    x, y = torch.zeros(2), 1
    assert parted((x, y)) == (x, y)
    assert parted({"image": x, "label": y}) == (x, y)
    inputs, target = parted({"input_ids": x, "attention_mask": x, "labels": y})
    assert set(inputs) == {"input_ids", "attention_mask"} and target == 1
    assert parted((x, y, 3)) is None and parted({"a": x, "b": y}) is None


def test_structures_are_batched_and_measured_leaf_by_leaf():
    examples = [{"a": torch.zeros(2), "b": (torch.ones(3, 4), torch.ones(()))} for _ in range(5)]
    batch = together(torch.stack, examples)
    assert shape_of(batch) == {"a": (5, 2), "b": ((5, 3, 4), (5,))}
    assert values_of(shape_of(examples[0])) == 2 + 12 + 1


class Two(nn.Module):
    def forward(self, left, right):
        return left + right


class Whole(nn.Module):
    def forward(self, both):
        return both[0] + both[1]


@pytest.mark.parametrize("inputs", [(torch.ones(2), torch.ones(2)), {"left": torch.ones(2), "right": torch.ones(2)}])
def test_a_model_gets_the_parts_that_its_forward_asks_for(inputs):
    model = Two()
    hand_over_parts(model)
    assert model(inputs).tolist() == [2, 2]


def test_a_model_that_takes_the_whole_gets_it():
    model = Whole()
    hand_over_parts(model)
    assert model((torch.ones(2), torch.ones(2))).tolist() == [2, 2]


def test_blanked_quantities_are_zero_what_says_how_to_read_them_stays_and_words_are_those_of_the_first_example():
    values, lengths, words = torch.rand(3, 4), torch.tensor([2, 4, 1]), torch.tensor([[1, 2], [3, 0], [4, 5]])
    quantities, kept = blanked((values, lengths))
    assert not quantities.any() and kept is lengths
    assert blanked({"ids": words})["ids"].tolist() == [[1, 2]] * 3
