"""Probes: interventions with a known right answer, and measurements. One probe is one function, one file per theme.

Every public function of the modules here can be named in a trial's `measure`: `name(setup, **args) -> dict`. Those
marked `@before_training` also run in check-init; nothing else has to be edited to add one.
"""
