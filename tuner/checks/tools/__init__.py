"""What measures share: interventions on models, batches and outputs. They import torch."""
