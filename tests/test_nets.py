import pytest
import torch
from torch import nn

from srcolor import images
from srcolor.metrics import PSNR
from srcolor.nets.bicubic import Bicubic
from srcolor.nets.residual import Residual
from srcolor.nets.size_decoder import SizeDecoder


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def wake(net: nn.Module) -> nn.Module:
    """Gives layers that start at zero weights of their own, so that everything takes part."""
    torch.manual_seed(0)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.1)
    return net.eval()


NETS = [
    pytest.param(Bicubic(), id="bicubic"),
    pytest.param(Bicubic(scale=3), id="bicubic x3"),
    pytest.param(wake(Residual(channels=8, blocks=2)), id="residual"),
    pytest.param(wake(Residual(channels=8, blocks=2, scale=3)), id="residual x3"),
    pytest.param(wake(SizeDecoder()), id="size_decoder"),
]


def test_size_decoder_is_the_articles_layer_by_layer():
    net = SizeDecoder()
    assert parameters(net) == 4_341_161
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    seen = []
    for layer in layers:
        layer.register_forward_hook(lambda layer, _, out: seen.append((type(layer).__name__, *out.shape[1:])))
    net(torch.rand(1, 3, 64, 64))
    assert seen == [
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
    """Worked out from its own layers, step by step, on [-1, 1]."""
    net = wake(SizeDecoder())
    x = torch.rand(1, 3, 32, 32)
    e = [x * 2 - 1]
    for step in net.encoder:
        e.append(step(e[-1]))
    d = net.decoder[0](e[4]) + e[3]
    d = net.decoder[1](d) + e[2]
    d = net.decoder[2](d) + e[1]
    torch.testing.assert_close(net(x), (net.head(d) + 1) / 2)


def test_residual_starts_at_bicubics_psnr():
    truth = torch.rand(2, 3, 32, 32)
    small = images.block_mean(truth, 2)
    ours, bicubic = PSNR(), PSNR()
    ours.update(Residual()(small).clamp(0, 1), truth)
    bicubic.update(Bicubic()(small), truth)
    assert torch.equal(ours.values, bicubic.values)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 5), (1, 33)])
def test_any_size_comes_out_scale_times_as_large(net, height, width):
    with torch.no_grad():
        out = net(torch.rand(2, 3, height, width))
    assert out.shape == (2, 3, net.scale * height, net.scale * width)
    assert out.isfinite().all()


@pytest.mark.parametrize("net", NETS)
def test_no_output_pixel_sees_beyond_the_receptive_field(net):
    """By the gradient of output pixels with respect to the input."""
    side = -(-(2 * net.receptive_field) // net.stride) * net.stride + 2 * net.stride
    widest = 0
    for offset in range(0, net.scale * net.stride, max(1, net.stride // 2)):
        x = torch.rand(1, 3, side, side, requires_grad=True)
        place = net.scale * (side // 2) + offset
        net(x)[0, :, place, place].sum().backward()
        columns = x.grad.abs().sum((0, 1, 2)).nonzero().flatten()
        widest = max(widest, int(columns.max() - columns.min()) + 1)
    assert widest <= net.receptive_field
    assert widest > 0.6 * net.receptive_field


@pytest.mark.parametrize("net", NETS)
def test_an_image_does_not_depend_on_its_neighbours_in_the_batch(net):
    batch = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(net(batch)[1:2], net(batch[1:2]), rtol=0, atol=1e-5)
