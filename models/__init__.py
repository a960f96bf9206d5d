"""Decodes images, runs and trains models, and computes statistics, with numpy and ONNX Runtime. No Spark."""
