"""Choice of the precision, and measured memory."""

import math

import pytest
import torch

from srcolor import hardware
from srcolor.errors import UserError


@pytest.mark.parametrize(
    ("instructions", "gain", "precision"),
    [(True, 2.0, "bf16-mixed"), (True, 0.6, "32-true"), (False, 2.0, "32-true")],
)
def test_a_cpu_trains_in_bfloat16_only_if_it_is_faster(instructions, gain, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(hardware, "bfloat16_gain", lambda: gain)
    assert hardware.choose("cpu").precision == precision
    assert hardware.choose("cpu", "bf16-mixed").precision == "bf16-mixed"  # an explicit precision is not changed


def test_the_precision_follows_the_measured_gain():
    gain = hardware.bfloat16_gain()
    assert isinstance(gain, float)
    assert 0 < gain < math.inf
    instructions = any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile"))
    faster = instructions and gain >= hardware.WORTHWHILE
    assert hardware.choose("cpu").precision == ("bf16-mixed" if faster else "32-true")


def test_memory_is_the_peak_of_simultaneous_tensors():
    """A tensor of 1 MiB, a second one, and a third after the first was freed: 2 MiB at the peak."""

    def work():
        first = torch.zeros(2**18)
        second = torch.zeros(2**18)
        del first
        return second, torch.zeros(2**18)

    assert hardware.cpu_memory_mb(work) == pytest.approx(2, abs=0.01)
    assert hardware.cpu_memory_mb(lambda: None) == 0


@pytest.mark.parametrize(
    ("accelerator", "precision", "message"),
    [
        ("gpu", "auto", "accelerator=gpu: expected one of auto, cpu, cuda."),
        ("cpu", "16-mixed", "trainer.precision=16-mixed: expected one of auto, 32, 32-true, bf16-mixed."),
    ],
)
def test_an_unknown_choice_lists_the_options(accelerator, precision, message):
    with pytest.raises(UserError) as caught:
        hardware.choose(accelerator, precision)
    assert str(caught.value) == message
