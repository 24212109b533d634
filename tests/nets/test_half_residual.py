"""The restoration network beyond what every network is tested for."""

import torch
from test_nets import parameters, wake

from srcolor.nets.half_residual import HalfResidual
from srcolor.nets.luma_sr import LumaSR


def test_half_residual_starts_as_its_input_and_works_on_blocks_of_two_by_two():
    x = torch.rand(2, 1, 12, 9)
    net = HalfResidual(channels=8, blocks=2)
    torch.testing.assert_close(net(x), x)
    head = wake(net).head
    seen = []
    head.register_forward_hook(lambda layer, inputs, out: seen.append(inputs[0]))
    changed = net(x) - x
    assert seen[0].shape == (2, 4, 6, 5)
    torch.testing.assert_close(seen[0][:, 1, :, :4], x[:, 0, ::2, 1:8:2])  # upper right of each block
    assert changed.abs().amax((1, 2, 3)).min() > 0.01


def test_restore128s_network_has_336k_parameters_and_starts_as_its_color_input():
    net, x = LumaSR(HalfResidual()), torch.rand(1, 3, 8, 8)
    assert parameters(net) == (36 + 1) * 48 + 16 * (9 * 48 + 1) * 48 + (9 * 48 + 1) * 4
    torch.testing.assert_close(net(x), x, rtol=0, atol=1e-5)
