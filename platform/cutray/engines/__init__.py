"""Run a network: normalised input in, probabilities out, on the engine that is fastest here.

``select`` chooses an engine and ``create`` builds it; openvino, onnxruntime, MNN and torch are imported only by the one
chosen.
"""
