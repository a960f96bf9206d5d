"""Runs ONNX models on columns of images and embeddings."""
