"""Image transforms with torchvision's names: classes here, functions in `functional`."""

from rushlight.vision.transforms import functional
from rushlight.vision.transforms.augment import RandAugment, TrivialAugmentWide
from rushlight.vision.transforms.colour import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    RandomErasing,
    RandomGrayscale,
    RandomInvert,
)
from rushlight.vision.transforms.container import Compose, Lambda, RandomApply, RandomChoice, RandomOrder
from rushlight.vision.transforms.convert import (
    ConvertImageDtype,
    LinearTransformation,
    Normalize,
    PILToTensor,
    ToPILImage,
    ToTensor,
)
from rushlight.vision.transforms.enhance import (
    RandomAdjustSharpness,
    RandomAutocontrast,
    RandomEqualize,
    RandomPosterize,
    RandomSolarize,
)
from rushlight.vision.transforms.functional import InterpolationMode
from rushlight.vision.transforms.geometry import (
    CenterCrop,
    FiveCrop,
    Pad,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomVerticalFlip,
    Resize,
    TenCrop,
)
from rushlight.vision.transforms.rotation import RandomAffine, RandomRotation

__all__ = [
    "RandAugment", "TrivialAugmentWide",
    "CenterCrop", "ColorJitter", "Compose", "ConvertImageDtype", "FiveCrop", "GaussianBlur", "Grayscale",
    "InterpolationMode", "Lambda", "LinearTransformation", "Normalize", "PILToTensor", "Pad", "RandomAdjustSharpness",
    "RandomAffine", "RandomAutocontrast", "RandomEqualize", "RandomPosterize", "RandomSolarize",
    "RandomApply", "RandomChoice", "RandomCrop", "RandomErasing", "RandomGrayscale", "RandomHorizontalFlip",
    "RandomInvert", "RandomOrder", "RandomResizedCrop", "RandomRotation", "RandomVerticalFlip", "Resize", "TenCrop",
    "ToPILImage", "ToTensor", "functional",
]  # fmt: skip
