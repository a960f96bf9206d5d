"""Numpy and ONNX Runtime: images decoded, models run, thresholds and probes reckoned. No Spark."""
