"""The checklist: its steps in order. Nothing heavy is imported here, so that `tuner --help` is quick."""

from __future__ import annotations

# the stage's name: (its step, its title in a report, the question that it answers)
CHECKLIST = {
    "check-init": ("1", "loss at initialisation", "is the loss before any update what theory says?"),
    "overfit": ("2", "overfit a tiny subset", "can the model drive a tiny subset to the loss floor?"),
    "lr-sweep": ("3", "learning-rate sweep", "which rates make the loss fall within 100 iterations?"),
    "coarse": ("4", "coarse search", "among many configurations, which region is good?"),
    "fine": ("5", "fine search", "which configuration wins, and by more than noise?"),
    "diagnose": ("6", "diagnosis of the winner", "what do the train and val curves say?"),
    "test": ("end", "generalisation error", "what is the accuracy on the test split, once?"),
}
NAMES = tuple(CHECKLIST)
BEFORE_TEST = NAMES[:-1]  # what `tuner run` carries out
LAST_BEFORE_TEST = BEFORE_TEST[-1]


def title(stage: str) -> str:
    """Return a stage's title."""
    return CHECKLIST[stage][1]


def question(stage: str) -> str:
    """Return a stage's step and question, for the list of commands."""
    step, _, words = CHECKLIST[stage]
    return f"{f'step {step}' if step.isdigit() else 'the end'}: {words}"
