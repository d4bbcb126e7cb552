"""The middle part of each stage's report: one module per stage, found by its name.

A module has `TITLE` and `body(result, stage_dir, page)`. It reads artifacts only, and shows `-` for what is not there.
"""
