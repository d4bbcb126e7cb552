"""The winner to take home: its model with the preprocessing inside, as weights, as ONNX, as plain PyTorch."""
