"""Starting a network from trained weights: of the whole network, or of the one that it projects."""

import pytest
import torch

from srcolor import runs
from srcolor.errors import UserError
from srcolor.nets.projected import Projected
from srcolor.nets.residual import Residual


@pytest.mark.parametrize(
    ("net", "start"),
    [
        (Residual(4, 1), Residual(4, 1)),
        (Projected(Residual(4, 1)), Projected(Residual(4, 1))),
        (Projected(Residual(4, 1)), Residual(4, 1)),
    ],
    ids=["bare", "whole", "inner"],
)
def test_a_network_starts_from_its_like_or_from_the_one_that_it_projects(net, start):
    torch.nn.init.normal_(start.net.tail.weight if isinstance(start, Projected) else start.tail.weight)
    runs.initialize(net, start, "x")
    inner, trained = (one.net if isinstance(one, Projected) else one for one in (net, start))
    for key, value in trained.state_dict().items():
        assert torch.equal(inner.state_dict()[key], value)


@pytest.mark.parametrize(
    ("net", "start", "message"),
    [
        (Projected(Residual(4, 2)), Residual(4, 1), r"x: the weights do not match Residual .*\n  body\.1\."),
        (Projected(Residual(4, 1)), Residual(8, 1), r"head\.weight: \(8, 3, 3, 3\) in the file, \(4, 3, 3, 3\)"),
        (
            Projected(Residual(4, 1)),
            Projected(Residual(8, 1)),
            r"do not match Projected .*\n  net\.head\.weight",
        ),
        (Residual(4, 1), Projected(Residual(4, 1)), r"head\.weight: not in the file"),
    ],
)
def test_another_network_is_an_error_that_names_what_differs(net, start, message):
    with pytest.raises(UserError, match=message):
        runs.initialize(net, start, "x")
