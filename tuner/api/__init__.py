"""The Python interface behind `tuner.check` and its like: the same checks on the user's own objects."""
