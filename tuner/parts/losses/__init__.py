"""Losses: functions `loss(outputs, targets, **args)` of a batch that give the mean, in nats for likelihoods.

Adding a loss is adding a function to a module of this package. outputs: (N, C) logits unless said otherwise; targets:
(N,) class indices, or (N, C) shares of the classes where an augmentation mixes examples.
"""
