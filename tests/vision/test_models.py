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
    features = vgg.make_layers(vgg.cfgs["A"], batch_norm=True)
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


# Parameters that torchvision's documentation tells of each.
COUNTS = {
    "mobilenet_v2": 3504872, "mobilenet_v3_large": 5483032, "mobilenet_v3_small": 2542856, "densenet121": 7978856, "densenet169": 14149480,
    "efficientnet_b0": 5288548, "efficientnet_b1": 7794184, "efficientnet_b2": 9109994, "efficientnet_b3": 12233232,
    "efficientnet_b5": 30389784, "efficientnet_v2_s": 21458488, "vit_b_32": 88224232, "squeezenet1_0": 1248424, "squeezenet1_1": 1235496,
    "shufflenet_v2_x0_5": 1366792, "shufflenet_v2_x1_0": 2278604, "shufflenet_v2_x1_5": 3503624, "shufflenet_v2_x2_0": 7393996,
    "convnext_tiny": 28589128, "googlenet": 13004888}
# Some of their names.
NAMES = {
    "mobilenet_v2": ["features.0.0.weight", "features.1.conv.0.1.running_var", "features.1.conv.1.weight", "features.2.conv.3.bias",
                     "features.18.1.weight", "classifier.1.weight"],
    "mobilenet_v3_small": ["features.1.block.1.fc1.weight", "features.1.block.2.0.weight", "features.12.1.bias", "classifier.0.weight",
                           "classifier.3.bias"],
    "densenet121": ["features.conv0.weight", "features.norm0.weight", "features.denseblock1.denselayer6.norm2.running_mean",
                    "features.transition3.conv.weight", "features.norm5.bias", "classifier.weight"],
    "efficientnet_b0": ["features.0.0.weight", "features.1.0.block.1.fc2.bias", "features.7.0.block.3.1.weight", "features.8.0.weight",
                        "classifier.1.bias"],
    "efficientnet_v2_s": ["features.1.0.block.0.0.weight", "features.2.0.block.1.1.weight", "features.4.0.block.2.fc1.weight"],
    "squeezenet1_1": ["features.0.weight", "features.3.squeeze.weight", "features.12.expand3x3.bias", "classifier.1.weight"],
    "shufflenet_v2_x0_5": ["conv1.0.weight", "stage2.0.branch1.2.weight", "stage4.3.branch2.6.weight", "conv5.1.running_mean", "fc.bias"],
    "convnext_tiny": ["features.0.1.weight", "features.1.0.layer_scale", "features.1.0.block.0.weight", "features.2.1.weight",
                      "features.7.2.block.5.bias", "classifier.0.weight", "classifier.2.weight"],
    "googlenet": ["conv1.conv.weight", "inception3a.branch2.1.bn.weight", "inception5b.branch4.1.conv.weight", "aux1.fc1.weight",
                  "fc.bias"],
    "vit_b_32": ["class_token", "conv_proj.weight", "encoder.pos_embedding", "encoder.layers.encoder_layer_0.ln_1.weight",
                 "encoder.layers.encoder_layer_11.self_attention.in_proj_weight",
                 "encoder.layers.encoder_layer_3.self_attention.out_proj.bias", "encoder.layers.encoder_layer_3.mlp.3.weight",
                 "encoder.ln.bias", "heads.head.weight"]}


@pytest.mark.parametrize("name", COUNTS)
def test_networks_have_as_many_parameters_as_torchvisions(name):
    model = getattr(models, name)()
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name]
    assert set(NAMES.get(name, ())) <= set(model.state_dict())


@pytest.mark.parametrize(("name", "size", "more"), [
    ("mobilenet_v2", 32, {"width_mult": 0.25}), ("mobilenet_v3_small", 32, {"width_mult": 0.25}), ("squeezenet1_1", 64, {}),
    ("shufflenet_v2_x0_5", 32, {}), ("vit_b_32", 64, {"image_size": 64, "num_layers": 2, "hidden_dim": 48, "num_heads": 4, "mlp_dim": 96}),
    ("googlenet", 64, {"aux_logits": False, "init_weights": False})])
def test_networks_for_images_learn(name, size, more):
    rushlight.manual_seed(0)
    model = getattr(models, name)(num_classes=2, **more)
    x, y = rushlight.rand(4, 3, size, size), rushlight.tensor([0, 1, 0, 1])
    optimizer = rushlight.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[2:]) < losses[0]
    model.eval()
    assert model(x).shape == (4, 2)


def test_small_networks_of_the_large_kinds():
    from rushlight.vision.models.convnext import ConvNeXt
    from rushlight.vision.models.densenet import DenseNet
    from rushlight.vision.models.efficientnet import EfficientNet, Stage

    rushlight.manual_seed(0)
    x = rushlight.rand(2, 3, 32, 32)
    stages = [Stage(True, 1, 3, 1, 8, 8, 2), Stage(True, 2, 3, 2, 8, 16, 2), Stage(False, 2, 3, 2, 16, 16, 2)]
    for model in (ConvNeXt((8, 16, 16, 24), (1, 1, 2, 1), 0.5, num_classes=5), DenseNet(4, (2, 2), 8, num_classes=5),
                  DenseNet(4, (2, 2), 8, num_classes=5, memory_efficient=True), EfficientNet(stages, 0.1, num_classes=5)):
        model(x).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        assert model.eval()(x).shape == (2, 5)


def test_a_googlenet_in_training_has_three_outputs():
    model = models.googlenet(num_classes=3, init_weights=False)
    out = model(rushlight.rand(2, 3, 64, 64))
    assert [tuple(part.shape) for part in out] == [(2, 3)] * 3
    assert out._fields == ("logits", "aux_logits2", "aux_logits1")
    assert model.eval()(rushlight.rand(1, 3, 64, 64)).shape == (1, 3)


def test_names_of_older_files_are_understood():
    from rushlight.vision.models.densenet import _renamed
    from rushlight.vision.models.vision_transformer import MLPBlock

    assert _renamed("features.denseblock1.denselayer12.norm.1.weight") == "features.denseblock1.denselayer12.norm1.weight"
    assert _renamed("features.denseblock1.denselayer12.conv.2.weight") == "features.denseblock1.denselayer12.conv2.weight"
    assert _renamed("features.transition1.norm.weight") == "features.transition1.norm.weight"
    block = MLPBlock(2, 3, 0.0)
    state = {name.replace("0.", "linear_1.").replace("3.", "linear_2."): value + 1 for name, value in block.state_dict().items()}
    before = block[3].bias.detach().clone()
    block.load_state_dict(state)
    assert rushlight.equal(block[3].bias, before + 1)
    with pytest.raises(AssertionError, match="image"):  # as torchvision
        models.vit_b_32(image_size=32, num_layers=1)(rushlight.rand(1, 3, 64, 64))
