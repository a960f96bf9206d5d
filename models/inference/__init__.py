"""Describes, checks and runs ONNX models: classifiers, encoders, heads."""
