"""Int8: ONNX files that onnxruntime computes in whole numbers of eight bits."""
