"""Rushlight against PyTorch: the same programs, in alternation, with the same number of threads."""
