"""The questions, one file each, on a shelf for each topic."""
