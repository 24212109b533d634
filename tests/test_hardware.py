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


def test_the_gain_is_that_of_the_clock(monkeypatch):
    ticks = iter(tick for _ in range(6) for tick in (0.0, 3.0, 10.0, 12.0))  # float32 3 s, bfloat16 2 s
    monkeypatch.setattr(hardware.time, "perf_counter", lambda: next(ticks))
    hardware.bfloat16_gain.cache_clear()
    try:
        assert hardware.bfloat16_gain() == 1.5
    finally:
        hardware.bfloat16_gain.cache_clear()
