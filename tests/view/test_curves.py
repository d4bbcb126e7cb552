from __future__ import annotations

import math

import pytest

from tuner.view.curves import Axis, Mark, Plot, Series, make_axis, plot, ticks


def draw(*series, width=60, unicode=True, **options):
    return plot(Plot("", series, **{"height": 8, **options}), width, unicode)


def cells(lines, glyph):
    return [(row, column) for row, line in enumerate(lines) for column, char in enumerate(line) if char == glyph]


def test_plot_puts_points_where_they_belong():
    lines = draw(Series("", [0, 10], [0, 1], line=False))
    assert cells(lines, "●") == [(0, 59), (7, 6)]


def test_plot_is_never_wider_than_asked():
    for width in (20, 33, 80):
        lines = draw(Series("a long name of a series", [0, 1, 2], [1, 5, 3]), width=width, x_label="x of some length")
        assert lines and max(map(len, lines)) <= width


def test_plot_puts_equal_ratios_at_equal_distances_when_log_x():
    lines = draw(Series("", [1e-3, 1e-2, 1e-1], [1, 1.5, 2], line=False), log_x=True)
    columns = sorted(column for _, column in cells(lines, "●"))
    assert abs((columns[1] - columns[0]) - (columns[2] - columns[1])) <= 1
    assert lines[-1].split() == ["0.001", "0.01", "0.1"]


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_plot_leaves_a_gap_for_what_is_no_number(value):
    lines = draw(Series("", [0, 1, 2, 3], [1, 2, value, 4]))
    assert len(cells(lines, "●")) == 3
    last = max(column for _, column in cells(lines, "●"))
    assert not [column for _, column in cells(lines, "·") if last - 15 < column]


def test_plot_gives_nothing_when_there_is_nothing():
    assert draw(Series("a", [], [])) == []
    assert draw(Series("a", [1, 2], [None, math.nan])) == []
    assert draw(Series("a", [-1, 0], [1, 2]), log_x=True) == []


def test_plot_draws_a_single_point_and_a_constant_series():
    assert len(cells(draw(Series("", [3], [0.5])), "●")) == 1
    rows = {row for row, _ in cells(draw(Series("", [1, 2, 3], [7, 7, 7])), "●")}
    assert len(rows) == 1


def test_plot_draws_what_diverged_at_the_top():
    lines = draw(Series("ok", [1, 2], [1, 2]), Series("gone", [3], [None], glyph="x", line=False, at_top=True))
    assert cells(lines[:8], "x")[0][0] == 0
    assert "x gone" in lines[-1]


def test_plot_of_a_single_dense_line_is_drawn_in_braille_and_falls():
    lines = draw(Series("loss", range(200), [2 - i / 100 for i in range(200)]))
    first, *_, last = [row for row in lines[:8] if any(0x2800 < ord(char) < 0x2900 for char in row)]
    assert len(first.rstrip()) < 20 and len(last.rstrip()) > 50


def test_plot_without_unicode_is_ascii():
    lines = draw(
        Series("a", [1, 2], [1, 2]), Series("b", range(99), range(99)), levels=[Mark(50, "half")], unicode=False
    )
    assert all(line.isascii() for line in lines)
    assert any("- half" in line for line in lines)


def test_plot_marks_a_place_and_a_level():
    lines = draw(Series("a", [0, 10], [0, 1]), places=[Mark(5, "here")], levels=[Mark(0.5, "floor")])
    assert len({column for _, column in cells(lines[:8], "┊")}) == 1
    assert any("┊ here" in line and "┄ floor" in line for line in lines)


def test_first_series_lies_on_top():
    lines = draw(Series("a", [1, 2], [1, 2], line=False), Series("b", [1, 2], [1, 2], line=False))
    assert len(cells(lines[:8], "●")) == 2 and not cells(lines[:8], "○")


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis(0, 10, False), [0, 5, 10]),
        (Axis(1e-4, 1, True), [1e-4, 1e-3, 1e-2, 1e-1, 1]),
        (Axis(0.02, 0.9, True), [0.03, 0.1, 0.3]),
        (Axis(0.012, 0.03, True), [0.015, 0.02, 0.025, 0.03]),  # less than a decade
    ],
)
def test_ticks_are_round(axis, expected):
    assert ticks(axis, 4 if axis.log else 2) == pytest.approx(expected)


def test_axis_of_one_value_has_room_around_it():
    axis = make_axis([0.0], log=False)
    assert axis.low < 0 < axis.high
    assert make_axis([1e-3], log=True).place(1e-3) == pytest.approx(0.5)


def test_epochs_have_ticks_at_whole_numbers_only():
    assert draw(Series("", [1, 2, 3, 4], [1, 2, 3, 4]), width=100)[-1].split() == ["1", "2", "3", "4"]
    assert "1.5" in draw(Series("", [1.25, 2, 3, 4], [1, 2, 3, 4]), width=100)[-1].split()
