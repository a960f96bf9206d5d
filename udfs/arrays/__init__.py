"""Small kernels on arrays that the other rooms share."""
