"""Settings files. This is a package so that the wheel and dist/winnow.zip contain them."""
