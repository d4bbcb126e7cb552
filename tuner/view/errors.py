"""How an error looks: what is wrong, then what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.core.errors import TunerError

if TYPE_CHECKING:
    from rich.console import Console


def show_error(error: TunerError, console: Console) -> None:
    """Print `error: ...` and `hint: ...`. Lines are not wrapped, so that paths and commands can be copied whole."""
    from rich.text import Text

    for label, style, text in (("error", "bold red", error.message), ("hint", "bold", error.hint)):
        if not text:
            continue
        line = Text()
        line.append(f"{label}: ", "" if console.no_color else style)
        line.append(printable(text, console.encoding))
        console.print(line, soft_wrap=True, highlight=False)


def printable(text: str, encoding: str | None = None) -> str:
    """Return a text without control characters, which could move the cursor or hide what is printed after them."""
    from tuner.view.page import encodable

    text = "".join(char if char.isprintable() or char in "\n\t" else " " for char in text.rstrip())
    return text if encodable(encoding, text) else text.encode("ascii", "replace").decode()
