"""Two images laid over each other: are they the same?"""
