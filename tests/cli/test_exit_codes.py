"""A message fits on a screen, whatever was found."""

from tuner.cli.exit_codes import MAX_MESSAGE_CHARACTERS, brief


def test_a_short_message_is_shown_as_it_is():
    assert brief("first\n  second") == "first\n  second"


def test_a_long_line_loses_its_middle():
    shown = brief("begin " + "x" * 5000 + " end")
    assert shown.startswith("begin xxx") and shown.endswith("xxx end") and len(shown) <= 400


def test_many_lines_lose_the_middle_ones_and_say_how_many():
    lines = [f"line {i}: " + "y" * 50 for i in range(200)]
    shown = brief("\n".join(lines)).splitlines()
    assert sum(map(len, shown)) + len(shown) <= MAX_MESSAGE_CHARACTERS
    assert shown[0] == lines[0] and shown[-1] == lines[-1]
    (left_out,) = [line for line in shown if "left out" in line]
    assert left_out == f"... {200 - (len(shown) - 1)} lines left out; --debug shows all ..."
