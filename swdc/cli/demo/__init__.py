"""The demonstration: a network is trained with SWD, slimmed, certified and run in onnxruntime."""
