"""`verify`: looks for damage in the files of a lake's tables."""
