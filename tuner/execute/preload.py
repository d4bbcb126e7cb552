"""What the fork server loads before it forks workers. Importing torch does not touch CUDA."""

import tuner.train.trial  # noqa: F401
