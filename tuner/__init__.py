"""tuner: the deep-learning tuning checklist as a program."""

__version__ = "0.1.0"
