"""Settings only; a package so that they travel in the wheel and in dist/winnow.zip."""
