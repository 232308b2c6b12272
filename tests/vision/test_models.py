"""Networks with torchvision's names: the same parameters, from the same seed, as torchvision's own make."""

import hashlib
import zlib

import numpy as np
import pytest

import rushlight
from rushlight import hub, nn
from rushlight.vision import models
from rushlight.vision.models import resnet, vgg
from rushlight.vision.models.weights import ImageClassification, Weights, WeightsEnum, load_weights


def names(model):
    return zlib.crc32(" ".join(model.state_dict()).encode())


# Checksums of what torchvision 0.28 makes.
@pytest.mark.parametrize(("name", "count", "keys", "values"), [
    ("resnet18", 122, 2757611610, 316236677), ("resnet50", 320, 3871506564, 1980439074)])
def test_resnets_have_torchvisions_parameters(name, count, keys, values):
    rushlight.manual_seed(0)
    model = getattr(models, name)(num_classes=10)
    assert len(model.state_dict()) == count
    assert names(model) == keys
    assert zlib.crc32(b"".join(p.detach().numpy().tobytes() for p in model.parameters())) == values


def test_a_vgg_has_torchvisions_parameters():
    features = vgg._features((1, 1, 2, 2, 2), batch_norm=True)
    assert names(features) == 276468189
    assert sum(p.numel() for p in features.parameters()) == 9225984
    assert [name for name, _ in vgg.VGG(nn.Identity(), 2, init_weights=False).named_parameters()] == [
        f"classifier.{layer}.{kind}" for layer in (0, 3, 6) for kind in ("weight", "bias")]


@pytest.mark.parametrize("block", [resnet.BasicBlock, resnet.Bottleneck])
def test_a_residual_network_learns(block):
    rushlight.manual_seed(0)
    model = resnet.ResNet(block, [1, 1, 1, 1], num_classes=3, zero_init_residual=True)
    last = "bn3" if block is resnet.Bottleneck else "bn2"
    assert all((getattr(stage[0], last).weight == 0).all() for stage in (model.layer1, model.layer4))
    x, y = rushlight.randn(6, 3, 32, 32), rushlight.tensor([0, 1, 2, 0, 1, 2])
    optimizer = rushlight.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_dilation_keeps_the_size_that_a_stride_would_halve():
    plain, dilated = (resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 2], 2, replace_stride_with_dilation=d).eval()
                      for d in (None, (False, True, True)))
    dilated.load_state_dict(plain.state_dict())
    size = {}
    for name, model in (("plain", plain), ("dilated", dilated)):
        model.layer4.register_forward_hook(lambda m, i, o, name=name: size.update({name: tuple(o.shape)}))
        model(rushlight.zeros(1, 3, 64, 64))
    assert size == {"plain": (1, 2048, 2, 2), "dilated": (1, 2048, 8, 8)}
    assert dilated.layer4[1].conv2.dilation == (4, 4)


def test_what_a_block_or_a_network_cannot_be():
    with pytest.raises(ValueError, match="groups=1"):
        resnet.BasicBlock(64, 64, groups=2)
    with pytest.raises(NotImplementedError, match="Dilation"):
        resnet.BasicBlock(64, 64, dilation=2)
    with pytest.raises(ValueError, match="3-element"):
        resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], replace_stride_with_dilation=(True,))


@pytest.fixture
def published(tmp_path):
    """Weights of a small model at an address, and where they are kept once fetched."""
    before = hub.get_dir()
    hub.set_dir(tmp_path / "hub")
    source = nn.Linear(2, 3)
    rushlight.save(source.state_dict(), tmp_path / "x.pth")
    digest = hashlib.sha256((tmp_path / "x.pth").read_bytes()).hexdigest()[:8]
    path = (tmp_path / "x.pth").rename(tmp_path / f"linear-{digest}.pth")

    class Linear_Weights(WeightsEnum):
        IMAGENET1K_V1 = Weights(path.as_uri())
        DEFAULT = IMAGENET1K_V1
    yield source, Linear_Weights
    hub.set_dir(before)


@pytest.mark.parametrize("ask", [lambda kind: (kind.DEFAULT, None), lambda kind: ("IMAGENET1K_V1", None),
                                 lambda kind: ("Linear_Weights.DEFAULT", None), lambda kind: (None, True), lambda kind: (True, None)],
                         ids=["member", "name", "full name", "pretrained", "positional"])
def test_published_weights_are_fetched_and_loaded(published, ask):
    source, kind = published
    weights, pretrained = ask(kind)
    model = load_weights(nn.Linear(2, 3), kind, weights, False, pretrained)
    assert np.array_equal(model.weight.detach().numpy(), source.weight.detach().numpy())


@pytest.mark.parametrize("none", [(None, None), (False, None), (None, False)])
def test_initial_values_stay_where_no_weights_are_asked_for(published, none):
    _, kind = published
    model = nn.Linear(2, 3)
    before = model.weight.detach().numpy().copy()
    assert np.array_equal(load_weights(model, kind, none[0], False, none[1]).weight.detach().numpy(), before)


def test_weights_of_another_model_are_refused():
    with pytest.raises(TypeError, match="expected ResNet18_Weights but received VGG16_Weights"):
        models.resnet18(weights=models.VGG16_Weights.DEFAULT)
    with pytest.raises(KeyError, match="IMAGENET1K_V7"):
        models.resnet18(weights="IMAGENET1K_V7")


def test_images_are_prepared_as_the_weights_want_them():
    assert models.ResNet50_Weights.DEFAULT.transforms() == ImageClassification(224, 232)
    image = rushlight.full((3, 300, 400), 255, dtype=rushlight.uint8)
    prepared = models.AlexNet_Weights.DEFAULT.transforms()(image)
    assert prepared.shape == (3, 224, 224)
    np.testing.assert_allclose(prepared[:, 0, 0].numpy(), (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225], rtol=1e-6)
