"""What is done with torch in the caller's own process at their request: no trial, so no worker and no deadline."""

from tuner.train.handover.onnx_file import val_inputs, write_onnx
from tuner.train.handover.weights import write_weights
from tuner.train.handover.winner import Winner, load_winner

__all__ = ["Winner", "load_winner", "val_inputs", "write_onnx", "write_weights"]
