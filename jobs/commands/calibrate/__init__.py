"""`calibrate`: sets the threshold of each category, with bounds on recall from random labels."""
