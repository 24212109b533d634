import pytest

from srcolor.training.schedules import constant, warmup_cosine


def test_warmup_cosine_rises_then_anneals_to_zero_and_stays_there():
    values = [warmup_cosine(i / 100, warmup=0.1) for i in range(102)]
    assert values[0] == 0
    assert values[10] == 1
    assert values[:11] == sorted(values[:11])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[100] == values[101] == pytest.approx(0, abs=1e-12)
    assert constant(0.7) == 1
