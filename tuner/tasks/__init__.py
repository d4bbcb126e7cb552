"""Tasks: what a target is. One object for each; stages, checks and view ask it, and none of them knows one by name.

Adding a task is adding a module with a class that answers `tuner.tasks.base.Task`, and its name to `load`.
"""
