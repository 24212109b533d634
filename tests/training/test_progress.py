import re

from test_two_optimizers import Adversarial
from tiny_data import TinyData, fit

from srcolor.training.progress import ProgressBar


def test_the_bar_shows_every_loss_and_the_monitored_metric(tmp_path, capsys):
    fit(Adversarial(), TinyData(), tmp_path, [ProgressBar("val/psnr", "demo")], max_steps=6)
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.match(r"demo epoch 1 +100% ", line)
    for name in ("critic", "loss"):
        assert re.search(rf" {name} -?[\d.]+ ", line)


def test_the_bar_shows_the_validation_metric_of_the_epoch_before(tmp_path, capsys):
    fit(Adversarial(), TinyData(), tmp_path, [ProgressBar("val/psnr")], max_epochs=3)
    assert re.search(r"val/psnr [\d.]+ ", capsys.readouterr().out)
