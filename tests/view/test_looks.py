"""The words of `tuner inspect`."""

import pytest

from tuner.view.looks import HEAD, model_text

LAYER = {
    "name": "features.0.conv",
    "kind": "Conv2d",
    "outputs": [64, 112, 112],
    "parameters": 9408,
    "multiply_adds": 118_013_952,
    "field": 7,
    "field_of_net": None,
    "mean": 0.01,
    "std": 1.2,
    "zeros": 0.5,
    "histogram": [0.1] * 16,
}
FOUND = {"layers": [LAYER], "parameters": 9408, "multiply_adds": 118_013_952, "remarks": [], "files": []}


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_of_layers_fits_a_terminal_and_says_which_columns_it_has_not(width):
    lines = model_text(FOUND, width).splitlines()
    assert max(map(len, lines[:2])) <= width
    gone = [name for name in HEAD if name not in lines[0]]
    assert gone and f"left out for the width: {', '.join(gone)} (--json has all)" in lines
    assert {"layer", "output", "weights", "mean", "std"} <= set(lines[0].split())


def test_off_a_terminal_the_table_has_every_column():
    text = model_text(FOUND)
    assert all(name in text.splitlines()[0] for name in HEAD) and "left out" not in text
    assert "field, of net: pixels of the layer's input, and of the network's, that a value depends on" in text
