"""ONNX models: read a graph, find its layers, expose its tensors, run it, measure its weights."""
