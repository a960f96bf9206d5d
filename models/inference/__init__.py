"""ONNX models described, checked and run: classifiers, encoders, heads."""
