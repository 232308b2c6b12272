"""The versions: of the PyTorch whose interface the package follows, which programs ask for, and of the package itself."""
from .torch_version import TorchVersion

torch = "2.13.0"
rushlight = "0.1.0"
#: PyTorch's version with a local label, as PyTorch's own builds have one ("2.13.0+cpu").
__version__ = TorchVersion(f"{torch}+rushlight")
cuda = None
hip = None
xpu = None
debug = False
git_version = "unknown"
