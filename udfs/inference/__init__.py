"""ONNX models run on columns of images and embeddings."""
