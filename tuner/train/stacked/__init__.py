"""Many small trials trained as one: their weights lie in one array, of which each trial's model sees its own part.

What a processor spends on a small net's training step is mostly the calls. A stack makes one call for all its trials
where they do the same with different numbers: reading batches, the layers' way forward and back. All else is each
trial's own object (optimizer, schedule, loss, evaluation, files), so its record is that of a trial by itself, bit for
bit, whoever else is in the stack. Each stack proves that on its own batches before it trains (`proof`).
"""
