"""Small kernels on arrays that the other packages share."""
