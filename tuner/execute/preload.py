"""What the fork server loads before it forks workers."""

import tuner.train.preload  # noqa: F401
