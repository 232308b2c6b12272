"""Write `torchvision.json`: what torchvision's transforms make of the cases. Run once, with torchvision installed:

python -m tests.vision.make_fixture
"""

import json
import zlib
from pathlib import Path

import torch
import torchvision
from torchvision import transforms

from tests.vision.cases import CASES, MODES, SEEDS, key, picture, pixels_of


def main() -> None:
    results: dict[str, dict] = {}
    for name, args in CASES:
        transform = getattr(transforms, name)(*args)
        for mode in MODES:
            for seed in SEEDS:
                torch.manual_seed(seed)
                pixels = pixels_of(transform(picture(mode)))
                results[key(name, args, mode, seed)] = {
                    "repr": repr(transform),
                    "shape": pixels.shape,
                    "crc32": zlib.crc32(pixels.tobytes()),
                    "next_draw": torch.rand(1).item(),
                }
    fixture = {"torchvision": torchvision.__version__, "cases": results}
    Path(__file__).with_name("torchvision.json").write_text(json.dumps(fixture, indent=0) + "\n")


if __name__ == "__main__":
    main()
