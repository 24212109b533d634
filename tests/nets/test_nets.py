"""Every network: shapes, receptive field, and specific properties against independent references."""

import copy

import pytest
import torch
from torch import nn

from srcolor import images
from srcolor.errors import UserError
from srcolor.metrics import PSNR
from srcolor.nets import Net
from srcolor.nets.bicubic import Bicubic
from srcolor.nets.blend import Blend
from srcolor.nets.chain import Chain
from srcolor.nets.chroma_table import ChromaTable
from srcolor.nets.guided_sr import GuidedSR
from srcolor.nets.half_residual import HalfResidual
from srcolor.nets.keep_luma import KeepLuma
from srcolor.nets.luma_sr import LumaSR
from srcolor.nets.projected import Projected
from srcolor.nets.residual import Residual
from srcolor.nets.sesr import SESR, Collapsed
from srcolor.nets.size_decoder import SizeDecoder
from srcolor.nets.unet import UNet
from srcolor.nets.unet_codes import UNetCodes
from srcolor.nets.unet_rgb import UNetRGB
from srcolor.nets.unet_segment import UNetSegment
from srcolor.nets.unsharp import Unsharp
from srcolor.nets.up_logits import UpLogits


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def wake(net: nn.Module) -> nn.Module:
    """Give all layers random weights, including those initialized to zero, so that every layer has an effect."""
    torch.manual_seed(0)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.1)
        elif isinstance(layer, Collapsed):
            nn.init.normal_(layer.narrow, std=0.1)
    return net.eval()


NETS = [
    pytest.param(Bicubic(), id="bicubic"),
    pytest.param(Bicubic(scale=3), id="bicubic x3"),
    pytest.param(wake(Residual(channels=8, blocks=2)), id="residual"),
    pytest.param(wake(Residual(channels=8, blocks=2, scale=3)), id="residual x3"),
    pytest.param(wake(SizeDecoder()), id="size_decoder"),
    pytest.param(wake(UNetRGB()), id="unet_rgb"),
    pytest.param(wake(UNet(channels=8)), id="unet"),
    pytest.param(wake(UNetCodes(channels=8)), id="unet_codes"),
    pytest.param(ChromaTable(256), id="chroma_table"),
    pytest.param(ChromaTable(1, scale=2), id="chroma_table x2"),
    pytest.param(wake(Chain(UNetRGB(), Residual(channels=8, blocks=1))), id="chain"),
    pytest.param(wake(KeepLuma(UNetRGB())), id="keep_luma"),
    pytest.param(wake(LumaSR(Residual(channels=8, blocks=2))), id="luma_sr"),
    pytest.param(wake(Blend(Residual(channels=4, blocks=1), Residual(channels=8, blocks=1), 0.5)), id="blend"),
    pytest.param(wake(Unsharp(Residual(channels=8, blocks=1), 0.5)), id="unsharp"),
    pytest.param(wake(HalfResidual(channels=8, blocks=2)), id="half_residual"),
    pytest.param(wake(LumaSR(HalfResidual(channels=8, blocks=2))), id="luma_sr of half_residual"),
    pytest.param(wake(SESR(channels=8, layers=2, width=16)), id="sesr"),
    pytest.param(wake(SESR(channels=8, layers=2, width=16, scale=3)), id="sesr x3"),
    pytest.param(wake(LumaSR(SESR(channels=8, layers=2, width=16))), id="luma_sr of sesr"),
    pytest.param(wake(Projected(Residual(channels=8, blocks=2))), id="projected"),
    pytest.param(wake(Projected(SESR(channels=8, layers=2, width=16, scale=3))), id="projected x3"),
    pytest.param(wake(UNetSegment(channels=8)), id="unet_segment"),
    pytest.param(wake(UNetSegment(channels=4, blocks=0, classes=3)), id="unet_segment without blocks"),
    pytest.param(wake(UpLogits(UNetSegment(channels=4, blocks=0), scale=2)), id="up_logits"),
    pytest.param(wake(UpLogits(UNetSegment(channels=4, blocks=0), scale=2, shrink=True)), id="up_logits of the large"),
    pytest.param(wake(GuidedSR(UNetSegment(channels=4, blocks=0), scale=2, channels=8, blocks=1)), id="guided_sr"),
    pytest.param(wake(GuidedSR(UNetSegment(channels=4, blocks=0), scale=4, channels=8, blocks=0)), id="guided_sr x4"),
]
LOCAL = [net for net in NETS if net.values[0].receptive_field is not None]


def input_of(net: Net, *size: int) -> torch.Tensor:
    return torch.rand(size[0], net.inputs or 3, *size[1:])


def test_size_decoder_has_the_layers_of_the_article():
    net = SizeDecoder()
    assert parameters(net) == 4_341_161
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    shapes = []
    for layer in layers:
        layer.register_forward_hook(lambda layer, _, out: shapes.append((type(layer).__name__, *out.shape[1:])))
    net(torch.rand(1, 3, 64, 64))
    assert shapes == [
        ("Conv2d", 64, 32, 32),
        ("Conv2d", 128, 16, 16),
        ("Conv2d", 256, 8, 8),
        ("Conv2d", 512, 4, 4),
        ("ConvTranspose2d", 256, 8, 8),
        ("ConvTranspose2d", 128, 16, 16),
        ("ConvTranspose2d", 64, 32, 32),
        ("ConvTranspose2d", 32, 64, 64),
        ("ConvTranspose2d", 3, 128, 128),
    ]
    kernels = [(layer.kernel_size, layer.stride, layer.padding) for layer in layers]
    assert kernels == [((3, 3), (2, 2), (1, 1))] * 4 + [((4, 4), (2, 2), (1, 1))] * 5
    assert [type(m) for m in net.modules() if isinstance(m, nn.ReLU | nn.Tanh)] == [nn.ReLU] * 7 + [nn.Tanh] * 2
    assert sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == 9


def test_size_decoder_adds_the_encoders_features():
    """Compute the output from its layers, step by step, on [-1, 1]."""
    net = wake(SizeDecoder())
    x = torch.rand(1, 3, 32, 32)
    encoded = [x * 2 - 1]
    for step in net.encoder:
        encoded.append(step(encoded[-1]))
    decoded = net.decoder[0](encoded[4]) + encoded[3]
    decoded = net.decoder[1](decoded) + encoded[2]
    decoded = net.decoder[2](decoded) + encoded[1]
    torch.testing.assert_close(net(x), (net.head(decoded) + 1) / 2)


def layer_by_layer(net: SESR, x: torch.Tensor) -> torch.Tensor:
    """Compute the output from the weights of training: wide 3x3 convolution, 1x1 convolution, skip connection."""
    head, *body, tail = net.convs

    def expanded(conv, x):
        y = nn.functional.conv2d(nn.functional.conv2d(x, conv.wide, padding=1), conv.narrow, conv.bias)
        return x + y if x.shape == y.shape else y

    first = features = expanded(head, x).relu()
    for conv in body:
        features = expanded(conv, features).relu()
    return images.bicubic_up(x, net.scale) + nn.functional.pixel_shuffle(expanded(tail, features + first), net.scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_sesr_collapsed_fused_and_layer_by_layer_agree(scale):
    net = wake(SESR(channels=8, layers=3, width=32, scale=scale)).double()
    x = torch.rand(2, 1, 13, 18, dtype=torch.float64)
    torch.testing.assert_close(net(x), layer_by_layer(net, x), rtol=0, atol=1e-12)
    assert (net(x) - images.bicubic_up(x, scale)).abs().max() > 0.01
    net, x = net.float(), x.float()
    torch.testing.assert_close(net.fused()(x), net(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(net.fused().fused()(x), net(x), rtol=0, atol=1e-5)


def test_sesr_of_the_default_size_has_at_most_60k_parameters_and_starts_as_bicubic():
    net = SESR()
    assert parameters(net.fused()) == 10 * 32 + 6 * (9 * 32 + 1) * 32 + (9 * 32 + 1) * 4 == 56_964
    x = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(net(x), images.bicubic_up(x, 2), rtol=0, atol=1e-6)


def test_luma_sr_applies_the_network_to_the_luma_of_gray_and_color():
    net = wake(LumaSR(SESR(channels=8, layers=2, width=16)))
    color = torch.rand(1, 3, 12, 14)
    gray = net(images.luma(color))
    torch.testing.assert_close(gray, net.net(images.luma(color)))
    torch.testing.assert_close(images.luma(net(color)), gray.clamp(0, 1), rtol=0, atol=1e-6)


def test_an_untrained_residual_has_the_psnr_of_bicubic():
    truth = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    small = images.block_mean(truth, 2)
    ours, bicubic = PSNR()(Residual()(small).clamp(0, 1), truth), PSNR()(Bicubic()(small), truth)
    torch.testing.assert_close(ours, bicubic, rtol=0, atol=1e-4)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 5), (1, 33)])
def test_any_size_is_enlarged_by_the_scale(net, height, width):
    with torch.no_grad():
        out = net(input_of(net, 2, height, width))
    assert out.shape == (2, net.outputs or 3, net.scale * height, net.scale * width)
    assert out.isfinite().all()


@pytest.mark.parametrize("net", LOCAL)
def test_no_output_pixel_depends_on_pixels_beyond_the_receptive_field(net):
    """Measured by the gradient of output pixels with respect to the input."""
    torch.manual_seed(0)
    net = copy.deepcopy(net).double()  # in which tanh rarely saturates to a gradient of zero
    side = -(-(2 * net.receptive_field) // net.stride) * net.stride + 2 * net.stride
    widest = 0
    for offset in range(0, net.scale * net.stride, max(1, net.stride // 2)):
        x = input_of(net, 1, side, side).double().requires_grad_()
        position = net.scale * (side // 2) + offset
        net(x)[0, :, position, position].sum().backward()
        columns = x.grad.abs().sum((0, 1, 2)).nonzero().flatten()
        if len(columns):
            widest = max(widest, int(columns.max() - columns.min()) + 1)
    assert widest <= net.receptive_field
    assert widest > 0.6 * net.receptive_field


@pytest.mark.parametrize("net", NETS)
def test_an_image_does_not_depend_on_the_others_of_its_batch(net):
    torch.manual_seed(0)
    net, batch = copy.deepcopy(net).double(), input_of(net, 3, 16, 16).double()
    with torch.no_grad():
        torch.testing.assert_close(net(batch)[1:2], net(batch[1:2]), rtol=0, atol=1e-5)


# -- color ---------------------------------------------------------------------------------------------------------


COLOR = [net for net in NETS if (net.values[0].inputs, net.values[0].outputs, net.values[0].scale) == (1, 3, 1)]
KEEPING = [net for net in COLOR if net.id != "unet_rgb"]


@pytest.mark.parametrize("net", KEEPING)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 5), (1, 33)])
def test_a_color_net_keeps_the_luma_of_its_input(net, height, width):
    gray = torch.rand(2, 1, height, width)
    with torch.no_grad():
        out = net(gray)
    rounded = images.to_uint8(out).float() / 255
    assert (images.luma(rounded) - gray).abs().max() <= 1 / 255


def test_an_untrained_unet_is_gray_and_ab_is_bounded():
    gray = torch.full((1, 1, 32, 32), 0.5)
    net = UNet(channels=8)
    with torch.no_grad():
        assert (net(gray) - gray).abs().max() < 1e-3
        net.head.bias.fill_(1e6)
        ab = images.rgb_to_lab(net(gray))[:, 1:]
    assert ab.min() > 0
    assert ab.max() <= 110


def test_unet_rgb_has_the_layers_of_the_article():
    net = UNetRGB()
    shapes = []
    for layer in [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]:
        layer.register_forward_hook(lambda layer, _, out: shapes.append(tuple(out.shape[1:])))
    net(torch.rand(1, 1, 64, 64))
    down, up = [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)], [(256, 8, 8), (128, 16, 16), (64, 32, 32)]
    assert shapes == [*down, *up, (3, 64, 64)]


def constant(color):
    """Return a network with the same chroma at every pixel, and a gray image."""

    class Constant(Net):
        inputs, outputs, scale, stride, receptive_field = 1, 3, 1, 1, 1

        def forward(self, gray):
            return images.with_luma(torch.tensor(color).reshape(1, 3, 1, 1).expand(-1, -1, *gray.shape[2:]), gray)

    return Constant(), 0.4 + 0.2 * torch.rand(1, 1, 32, 32)


@pytest.mark.parametrize("route", ["keep_luma", "luma_sr", "bicubic"])
def test_constant_chroma_survives_the_routes(route):
    net, gray = constant([0.55, 0.5, 0.45])
    whole = {
        "keep_luma": KeepLuma(net),
        "luma_sr": Chain(net, LumaSR(wake(Residual(channels=8, blocks=1)))),
        "bicubic": Chain(net, Bicubic(2)),
    }[route]
    with torch.no_grad():
        out = whole(gray)
        # Where an untrained network leaves [0, 1], chroma is clipped; only middle tones are compared.
        middle = (images.luma(out) > 0.3) & (images.luma(out) < 0.7)
        assert middle.any()
        chroma = (out - images.luma(out))[:, :, middle[0, 0]]
    expected = torch.tensor([0.55, 0.5, 0.45]) - images.luma(torch.tensor([0.55, 0.5, 0.45]).reshape(1, 3, 1, 1)).item()
    torch.testing.assert_close(chroma[0], expected[:, None].expand(3, chroma.shape[2]), rtol=0, atol=1e-4)


def test_keep_luma_keeps_the_luma_of_the_input():
    gray = torch.rand(1, 1, 33, 50)
    with torch.no_grad():
        out = KeepLuma(wake(UNetRGB()))(gray)
    assert out.shape == (1, 3, 33, 50)
    torch.testing.assert_close(images.luma(out), gray, rtol=0, atol=1e-6)


class Toy(nn.Module):
    """A network with any number of channels that enlarges by its scale."""

    stride, receptive_field = 2, 3

    def __init__(self, inputs, outputs, scale):
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x):
        return torch.sigmoid(self.conv(x)).repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


def test_a_chain_applies_both_networks_with_any_channels():
    first, second = Toy(2, 5, 3), Toy(5, 1, 2)
    chain = Chain(first, second)
    x = torch.rand(2, 2, 8, 8)
    assert torch.equal(chain(x), second(first(x)))
    assert chain.scale == 6
    assert chain.stride == 2
    assert (
        chain.receptive_field == 3 + 2
    )  # the second adds two pixels of the first's output, at most one input pixel, rounded up to the stride


def test_networks_in_the_wrong_order_are_named():
    with pytest.raises(UserError, match=r"Residual outputs 3 channel.*UNetRGB expects 1.*A color network comes first"):
        Chain(Residual(), UNetRGB())


def test_a_chroma_table_is_the_mean_ab_at_each_gray_level():
    """Two colors of different luma, and a third with the luma of the second."""
    colors = torch.tensor([[0.2, 0.1, 0.1], [0.8, 0.6, 0.4], [0.8, 0.6, 0.4]])
    colors[2] = images.with_luma(
        torch.tensor([0.1, 0.9, 0.3]).reshape(1, 3, 1, 1), images.luma(colors[1].reshape(1, 3, 1, 1))
    ).flatten()
    target = colors.reshape(3, 3, 1, 1)
    pair = images.Pair(images.luma(target), target, torch.arange(3))
    ab = images.rgb_to_lab(target)[:, 1:, 0, 0]
    table, mean, none = ChromaTable(256), ChromaTable(1), ChromaTable(0)
    for net in (table, mean, none):
        net.fit([pair])
    level = (pair.input.flatten() * 255).round().long()
    torch.testing.assert_close(table.ab[level[0]], ab[0])
    torch.testing.assert_close(table.ab[level[1]], (ab[1] + ab[2]) / 2)
    torch.testing.assert_close(table.ab[0], ab.mean(0))  # a level without pixels
    torch.testing.assert_close(mean.ab[0], ab.mean(0))
    assert (none(pair.input) - pair.input).abs().max() < 1e-3


def test_the_block_means_of_a_projected_output_are_the_input():
    net = wake(Projected(Residual(channels=8, blocks=1)))
    x = torch.rand(2, 3, 9, 7)
    torch.testing.assert_close(images.block_mean(net(x), 2), x, rtol=0, atol=1e-6)
    assert (net(x) - net.net(x)).abs().max() > 0.01


@pytest.mark.parametrize("net", [UNet(channels=8), Chain(UNetRGB(), Residual(8, 1))], ids=["color", "chain"])
def test_only_a_network_that_enlarges_its_own_channels_is_projected(net):
    with pytest.raises(UserError, match=f"{type(net).__name__} cannot be projected onto its input: expected a network"):
        Projected(net)
