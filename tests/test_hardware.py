import math

import pytest
import torch

from srcolor import hardware


@pytest.mark.parametrize(
    ("instructions", "gain", "precision"),
    [(True, 2.0, "bf16-mixed"), (True, 0.6, "32-true"), (False, 2.0, "32-true")],
)
def test_a_cpu_trains_in_bfloat16_only_where_that_is_faster(instructions, gain, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(hardware, "bfloat16_gain", lambda: gain)
    assert hardware.choose("cpu").precision == precision
    assert hardware.choose("cpu", "bf16-mixed").precision == "bf16-mixed"  # what is laid down counts


def test_the_gain_is_measured_and_the_choice_follows_it():
    gain = hardware.bfloat16_gain()
    assert isinstance(gain, float)
    assert 0 < gain < math.inf
    instructions = any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile"))
    faster = instructions and gain >= hardware.WORTHWHILE
    assert hardware.choose("cpu").precision == ("bf16-mixed" if faster else "32-true")


def test_memory_is_the_most_that_tensors_held_at_once():
    """A MiB, another beside it, and one more after the first is gone: two at most."""

    def work():
        first = torch.zeros(2**18)
        second = torch.zeros(2**18)
        del first
        return second, torch.zeros(2**18)

    assert hardware.cpu_memory_mb(work) == pytest.approx(2, abs=0.01)
    assert hardware.cpu_memory_mb(lambda: None) == 0
