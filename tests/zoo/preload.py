"""What the server of the zoo's processes has loaded before it forks them."""

import matplotlib.figure
import optuna
import pandas
import scipy.stats
import sklearn.datasets
import sklearn.model_selection
import torch

import tuner.train.trial
import tuner.workflow.engine
from tuner.train.compiler import leave_for_later

torch.set_num_threads(1)
leave_for_later()
LOADED = (matplotlib, optuna, pandas, scipy, sklearn, tuner)
