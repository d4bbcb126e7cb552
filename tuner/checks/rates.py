"""How often a code is right on the zoo: written by `python -m tests.zoo judge --write`. Do not edit."""

RATES: dict[str, float] = {
    "IN112": 0.6,
}
