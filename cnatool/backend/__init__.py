"""ONNX: read a graph, find its layers, expose its intermediates, run it."""
