"""The network of color codes: stable coloring, samples, given codes, and what a checkpoint keeps."""

import pytest
import torch
from test_nets import wake
from torch import nn

from srcolor import images, runs
from srcolor.color_code import ColorCode, color_code, recolor, to_vector
from srcolor.errors import UserError
from srcolor.images import Pair
from srcolor.nets.unet_codes import VIVIDNESS, UNetCodes


def make_net(informed=True):
    """Return a network whose layers all have an effect, fitted on pale images."""
    torch.manual_seed(0)
    net = wake(UNetCodes(channels=8))
    nn.init.normal_(net.film[-1].weight, std=0.1)
    net.fit([pale(32, side=16)])
    net.prior.informed.fill_(informed)
    return net


def pale(count, side=32):
    """Return images of middle gray with a few colors, all of them far from the limits of sRGB."""
    generator = torch.Generator().manual_seed(7)
    target = 0.5 + 0.05 * torch.randn(count, 3, 1, 1, generator=generator)
    deviations = 0.01 + 0.03 * torch.rand(count, 1, 1, 1, generator=generator)
    target = (target + deviations * torch.randn(count, 3, side, side, generator=generator)).clamp(0.3, 0.7)
    return Pair(images.luma(target), target, torch.arange(count))


def codes_of(rgb):
    return color_code(images.rgb_to_lab(rgb)[:, 1:])


@pytest.fixture(scope="module")
def net():
    return make_net()


@pytest.fixture(autouse=True)
def without_gradients(request):
    with torch.set_grad_enabled("gradients" in request.node.name):
        yield


def test_samples_depend_on_their_seed_and_position_alone(net):
    gray = pale(3).input
    eight = net.samples(gray, 8, 1, [4, 5, 6])
    assert eight.shape == (3, 8, 3, 32, 32)
    assert torch.equal(net.samples(gray, 8, 1, [4, 5, 6]), eight)
    torch.testing.assert_close(net.samples(gray, 3, 1, [4, 5, 6]), eight[:, :3], rtol=0, atol=1e-5)
    torch.testing.assert_close(net.samples(gray[1:2], 8, 1, [5]), eight[1:2], rtol=0, atol=1e-5)
    torch.testing.assert_close(net.samples(gray, 3, 1, [4, 5, 6], skip=2), eight[:, 2:3], rtol=0, atol=1e-5)
    assert (net.samples(gray, 1, 1, [7, 7, 7])[:, 0] - eight[:, 0]).abs().amax((1, 2, 3)).min() > 0.01
    assert (eight[:, 1] - eight[:, 0]).abs().amax((1, 2, 3)).min() > 0.01


def test_at_temperature_zero_every_sample_is_the_stable_coloring(net):
    gray = pale(2).input
    samples = net.samples(gray, 3, 0, [0, 1])
    for number in range(3):
        torch.testing.assert_close(samples[:, number], net(gray), rtol=0, atol=1e-6)


def test_samples_differ_more_at_a_higher_temperature(net):
    gray = pale(2).input
    low, high = (net.samples(gray, 4, temperature, [0, 1]) - net(gray)[:, None] for temperature in (0.3, 1))
    assert (low.square().mean((1, 2, 3, 4)) < 0.5 * high.square().mean((1, 2, 3, 4))).all()


@pytest.mark.parametrize(
    ("count", "temperature", "message"),
    [(0, 1, "samples=0"), (1, -0.1, r"temperature=-0\.1"), (1, 3.1, r"temperature=3\.1")],
)
def test_bad_arguments_of_samples_are_refused(count, temperature, message, net):
    with pytest.raises(UserError, match=message):
        net.samples(pale(1).input, count, temperature, [0])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 5), (1, 33), (1, 1)])
def test_every_coloring_keeps_the_luma_at_any_size(height, width, net):
    gray = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0))
    code = codes_of(pale(2).target)
    for rgb in (net(gray), *net.samples(gray, 2, 1, [0, 1]).unbind(1), net.colorize(gray, code)):
        assert rgb.shape == (2, 3, height, width)
        torch.testing.assert_close(images.luma(rgb), gray, rtol=0, atol=1e-5)


def test_a_given_code_is_hit_where_srgb_has_the_colors(net):
    pair = pale(4)
    target = codes_of(pair.target)
    code = codes_of(net.colorize(pair.input, target))
    torch.testing.assert_close(code.mean, target.mean, rtol=0, atol=0.5)  # the luma moves a*, b* a little
    torch.testing.assert_close(code.covariance, target.covariance, rtol=0.05, atol=1)


def test_the_code_also_decides_which_pixel_has_which_color():
    """FiLM: after the same map, predictions with two codes differ. At the start they do not: its last layer is zero."""
    gray, trained, untrained = pale(1).input, make_net(), wake(UNetCodes(channels=8))
    differences = []
    for net in (trained, untrained):
        first, second = (
            net.training_outputs(gray, ColorCode(torch.tensor([[mean, 0.0]]), 25 * torch.eye(2)[None])).coded
            for mean in (-20.0, 20.0)
        )
        differences.append((recolor(first, color_code(second)) - second).abs().max().item())
    assert differences[0] > 1
    assert differences[1] < 1e-3


@pytest.mark.parametrize("informed", [True, False])
def test_the_stable_code_has_the_predicted_mean_and_spread_and_the_shape_of_the_prediction_without_a_code(informed):
    net, gray = make_net(informed), pale(3).input
    encoded = net.encode(gray)
    whitened, mixture = net._codes(gray, encoded)
    code, expected, plain = net.code(whitened), net.code(mixture.mean()), color_code(net.decode(gray, *encoded))
    torch.testing.assert_close(code.mean, expected.mean, rtol=1e-4, atol=1e-3)
    total, predicted, of_plain = (one.covariance.diagonal(dim1=1, dim2=2).sum(1) for one in (code, expected, plain))
    torch.testing.assert_close(total, VIVIDNESS**2 * predicted, rtol=1e-3, atol=1e-3)
    shapes = code.covariance / total[:, None, None], plain.covariance / of_plain[:, None, None]
    torch.testing.assert_close(*shapes, rtol=0, atol=1e-3)


def test_without_an_informed_prior_mean_color_and_spread_are_those_of_the_training_images():
    net = make_net(informed=False)
    code = codes_of(net(pale(3).input))
    torch.testing.assert_close(code.mean, net.code_mean[:2].expand(3, 2), rtol=0, atol=0.5)
    expected = VIVIDNESS**2 * net.code(torch.zeros(1, 5)).covariance.diagonal(dim1=1, dim2=2).sum()
    totals = code.covariance.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(totals, expected.expand(3), rtol=0.1, atol=0)


def test_a_predicted_spread_of_nothing_is_a_coloring_of_one_color():
    """Less than the floor, which `from_vector` subtracts, so that the predicted variances are negative."""
    net, gray = make_net(informed=False), pale(2).input
    net.head.weight[net.levels :] = 0  # the without a code varies in a* alone
    net.code_mean[2:] = torch.tensor([-9.0, 0.0, -9.0])
    rgb = net(gray)
    assert rgb.isfinite().all()
    assert codes_of(rgb).covariance.abs().max() < 0.1


def test_codes_of_the_training_images_are_whitened(net):
    whitened = net.whiten(codes_of(pale(32, side=16).target)).double()
    torch.testing.assert_close(whitened.mean(0), torch.zeros(5).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(whitened.T.cov(correction=0), torch.eye(5).double(), rtol=0, atol=1e-3)
    assert net.fitted
    assert not UNetCodes(channels=8).fitted


def test_the_batches_of_a_fit_do_not_matter(net):
    pair = pale(32, side=16)
    other = UNetCodes(channels=8)
    other.fit(Pair(*(part[i : i + 5] for part in pair)) for i in range(0, 32, 5))
    for name in ("code_mean", "code_root", "code_inverse"):
        torch.testing.assert_close(other.get_buffer(name), net.get_buffer(name))


def test_whitening_is_inverted(net):
    code = codes_of(pale(4).target)
    for part, again in zip(code, net.code(net.whiten(code)), strict=True):
        torch.testing.assert_close(again, part, rtol=1e-3, atol=1e-3)


def test_likelihood_gradients_train_the_prior_alone():
    net = make_net()
    pair = pale(2)
    outputs = net.training_outputs(pair.input, codes_of(pair.target))
    torch.testing.assert_close(outputs.code, net.whiten(codes_of(pair.target)))
    outputs.prior.log_density(outputs.code).sum().backward()
    trained = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in net.named_parameters() if name.startswith("prior.")}


def test_without_a_code_the_prediction_is_that_of_the_plain_unet(net):
    pair = pale(2)
    one, other = (
        net.training_outputs(pair.input, code) for code in (codes_of(pair.target), codes_of(pair.target.flip(0)))
    )
    assert torch.equal(one.plain, other.plain)
    assert (one.coded - other.coded).abs().max() > 1
    torch.testing.assert_close(color_code(one.coded).mean, codes_of(pair.target).mean, rtol=0, atol=1e-3)


def test_a_checkpoint_rebuilds_the_network_with_its_statistics(tmp_path):
    net = make_net(informed=False)
    config = {"_target_": "srcolor.nets.unet_codes.UNetCodes", "channels": 8}
    state = {f"net.{key}": value for key, value in net.state_dict().items()}
    torch.save({"net_config": config, "state_dict": state, "trained_on": []}, tmp_path / "x.ckpt")
    loaded = runs.load_net(str(tmp_path / "x.ckpt"))
    gray = pale(2).input
    assert loaded.fitted
    assert not loaded.prior.informed
    torch.testing.assert_close(loaded(gray), net(gray), rtol=0, atol=1e-6)
    samples = (one.samples(gray, 2, 1, [1, 2]) for one in (loaded, net))
    torch.testing.assert_close(*samples, rtol=0, atol=1e-6)


def test_it_works_in_float64_and_bfloat16(net):
    gray = pale(2).input
    precise = make_net().double()(gray.double())
    torch.testing.assert_close(precise.float(), net(gray), rtol=0, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        coarse, samples = net(gray), net.samples(gray, 2, 1, [0, 1])
    torch.testing.assert_close(images.luma(coarse), gray, rtol=0, atol=1e-5)
    assert samples.isfinite().all()
    torch.testing.assert_close(to_vector(codes_of(coarse)), to_vector(codes_of(net(gray))), rtol=0.2, atol=1)
