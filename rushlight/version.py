"""The version of the package, and of the PyTorch whose interface it follows."""
__version__ = "0.1.0"
torch = "2.13.0"
cuda = None
hip = None
debug = False
git_version = "unknown"
