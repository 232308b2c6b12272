"""Networks that name the class of each pixel: torchvision's parameters from the same seed, sizes, weights and what does not fit."""

import zlib
from collections import OrderedDict

import pytest

import rushlight as torch
from rushlight import nn
from rushlight.vision.models import resnet, segmentation
from rushlight.vision.models._utils import IntermediateLayerGetter, _make_divisible
from rushlight.vision.models.segmentation import deeplabv3, fcn
from rushlight.vision.models.weights import ObjectDetection, SemanticSegmentation


# Checksums of what torchvision 0.28 makes: the names of parameters, and their values from seed 0.
@pytest.mark.parametrize(("name", "more", "keys", "values"), [
    ("lraspp_mobilenet_v3_large", {}, 3515212493, 3076117371),
    ("deeplabv3_mobilenet_v3_large", {"aux_loss": True}, 2521012695, 629734862)])
def test_torchvisions_parameters(name, more, keys, values):
    torch.manual_seed(0)
    net = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=5, **more)
    assert zlib.crc32(" ".join(net.state_dict()).encode()) == keys
    assert zlib.crc32(b"".join(p.detach().numpy().tobytes() for p in net.parameters())) == values


@pytest.mark.parametrize(("kind", "head"), [(fcn.FCN, fcn.FCNHead), (deeplabv3.DeepLabV3, deeplabv3.DeepLabHead)])
def test_heads_over_a_dilated_resnet(kind, head):
    small = resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], replace_stride_with_dilation=(False, True, True))
    net = fcn.over_resnet(kind, head, small, 4, True).eval()
    sizes = []
    net.backbone.layer4.register_forward_hook(lambda module, given, out: sizes.append(tuple(out.shape)))
    with torch.no_grad():
        out = net(torch.rand(1, 3, 41, 57))
    assert isinstance(out, OrderedDict) and list(out) == ["out", "aux"]
    assert all(maps.shape == (1, 4, 41, 57) for maps in out.values())
    assert sizes == [(1, 2048, 6, 8)]  # an eighth of the image, not a thirty-second
    assert "fc" not in net.backbone


def test_what_of_the_arguments_does_not_fit():
    make = segmentation.lraspp_mobilenet_v3_large
    with pytest.raises(NotImplementedError, match="auxiliary loss"):
        make(weights_backbone=None, aux_loss=True)
    with pytest.raises(ValueError, match="'num_classes' expected value 21 but got 3 instead"):
        make(weights="DEFAULT", num_classes=3)
    assert make(pretrained=False, pretrained_backbone=False).classifier.low_classifier.out_channels == 21
    assert segmentation.FCN_ResNet50_Weights.DEFAULT.url.endswith("/fcn_resnet50_coco-1167a1af.pth")


def test_what_images_go_through():
    image = torch.full((3, 8, 16), 255, dtype=torch.uint8)
    assert (ObjectDetection()(image) == 1).all()
    seen = segmentation.FCN_ResNet50_Weights.DEFAULT.transforms()
    assert seen == SemanticSegmentation(520)
    small = SemanticSegmentation(resize_size=4)(image)
    assert small.shape == (3, 4, 8)
    torch.testing.assert_close(small[:, 0, 0], (1 - torch.tensor(seen.mean)) / torch.tensor(seen.std))
    assert SemanticSegmentation(resize_size=None)(image).shape == (3, 8, 16)


def test_layers_as_far_as_they_are_wanted():
    net = nn.Sequential(OrderedDict(a=nn.Linear(2, 3), b=nn.ReLU(), c=nn.Linear(3, 4), d=nn.Linear(4, 5)))
    body = IntermediateLayerGetter(net, {"a": "first", "c": "last"})
    x = torch.rand(2, 2)
    out = body(x)
    assert list(body) == ["a", "b", "c"] and list(out) == ["first", "last"]
    torch.testing.assert_close(out["last"], net.c(net.b(net.a(x))))
    assert body.return_layers == {"a": "first", "c": "last"}
    with pytest.raises(ValueError, match="return_layers are not present in model"):
        IntermediateLayerGetter(net, {"e": "e"})
    assert _make_divisible(37, 8) == 40
