"""The functions behind the layers: ``rushlight.nn.functional``, usually imported as ``F``."""
from __future__ import annotations

from .activation import *  # noqa: F401,F403
from .attention import *  # noqa: F401,F403
from .conv import *  # noqa: F401,F403
from .ctc import *  # noqa: F401,F403
from .distance import *  # noqa: F401,F403
from .dropout import *  # noqa: F401,F403
from .embedding import *  # noqa: F401,F403
from .fold import *  # noqa: F401,F403
from .fractional import *  # noqa: F401,F403
from .grid import *  # noqa: F401,F403
from .linear import *  # noqa: F401,F403
from .linear_loss import *  # noqa: F401,F403
from .loss import *  # noqa: F401,F403
from .margin import *  # noqa: F401,F403
from .norm import *  # noqa: F401,F403
from .pad import *  # noqa: F401,F403
from .pooling import *  # noqa: F401,F403
from .vision import *  # noqa: F401,F403


def _quicken() -> None:
    """Let the functions of all modules here take the quick way (see ``autograd/quick.py``)."""
    import sys
    from types import FunctionType

    from ...autograd.quick import quick

    for name, function in list(globals().items()):
        if isinstance(function, FunctionType) and function.__module__.startswith(__name__ + "."):
            globals()[name] = made = quick(function)
            setattr(sys.modules[function.__module__], name, made)


_quicken()
