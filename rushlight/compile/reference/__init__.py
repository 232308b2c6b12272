"""The NumPy interpreter: what graphs and formulas mean."""
