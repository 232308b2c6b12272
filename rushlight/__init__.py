"""Rushlight: a deep-learning framework with PyTorch's programming model and a compiler underneath."""
