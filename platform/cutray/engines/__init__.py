"""Run a network: normalised input in, probabilities out, on the engine that is fastest here.

``select`` chooses and builds an engine; openvino, onnxruntime and torch are imported only by the one chosen.
"""
