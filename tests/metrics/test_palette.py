import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from skimage import data
from skimage.color import rgb2lab

from srcolor import images, metrics
from srcolor.errors import UserError
from srcolor.metrics import MEASURES
from srcolor.runs import records


@pytest.fixture(scope="module")
def truth():
    """Crops of four photographs."""
    photos = (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())
    crops = np.stack([photo[100:228, 100:228] for photo in photos])
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def summary(prediction, target):
    statistics = metrics.measure({"palette": MEASURES["palette"]()}, prediction, target)["palette"]
    return MEASURES["palette"].summarize(statistics).item()


def test_palette_is_the_divergence_of_histograms_of_scikit_images_cielab(truth):
    prediction = (0.7 * truth + 0.3 * images.luma(truth)).clamp(0, 1)
    edges = [np.arange(-115, 116, 10.0)] * 2
    histograms = [
        np.histogram2d(*rgb2lab(batch.permute(0, 2, 3, 1).numpy()).reshape(-1, 3).T[1:], edges)[0].ravel()
        for batch in (prediction, truth)
    ]
    expected = jensenshannon(*histograms, base=2) ** 2
    assert expected > 0.02
    # Colors within float rounding of the edge of a bin may be counted in its neighbor.
    assert summary(prediction, truth) == pytest.approx(expected, abs=1e-4)


def lab(*ab):
    """One image per argument, a row of pixels of the given (a*, b*)."""
    rows = [[(50.0, *pixel) for pixel in row] for row in ab]
    return torch.tensor(rows).permute(0, 2, 1)[:, :, None]


RED, BLUE = (60.0, 40.0), (20.0, -60.0)


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        (lab([RED, RED], [BLUE, BLUE]), lab([BLUE, BLUE], [RED, RED]), 0),  # as sets they are equal
        (lab([RED, RED]), lab([BLUE, BLUE]), 1),
        (lab([RED, RED]), lab([RED, BLUE]), 0.311278),  # H(3/4, 1/4) - H(1/2, 1/2) / 2
        (lab([(0.005, -0.005)]), lab([(-0.005, 0.005)]), 0),  # grays after rounding
    ],
)
def test_palette_of_hand_computed_values(prediction, target, expected):
    palette = MEASURES["palette"]
    statistics = palette()(prediction, target)
    assert palette.summarize(statistics).item() == pytest.approx(expected, abs=1e-6)
    assert statistics.reshape(len(prediction), 2, -1).sum(-1).flatten().tolist() == [1.0] * 2 * len(prediction)


def test_resampling_images_is_averaging_their_statistics(truth):
    palette = MEASURES["palette"]
    prediction = 0.5 * truth + 0.5 * images.luma(truth)
    statistics = palette()(images.rgb_to_lab(prediction), images.rgb_to_lab(truth))
    draws = torch.randint(len(truth), (5, len(truth)), generator=torch.Generator().manual_seed(0))
    weights = torch.nn.functional.one_hot(draws).double().mean(1)
    resampled = [summary(prediction[draw], truth[draw]) for draw in draws]
    assert palette.result(weights @ statistics.double()).tolist() == pytest.approx(resampled, abs=1e-6)
    assert len(set(resampled)) == 5


def test_no_run_is_monitored_by_a_metric_of_a_set():
    with pytest.raises(UserError, match=r"monitor=val/palette: .*measures a whole set.*val/texture"):
        metrics.higher_is_better("val/palette")


def test_a_metric_of_a_set_is_reported_of_each_set_but_not_of_each_image(tmp_path):
    palette = MEASURES["palette"]
    target = lab([RED, RED], [BLUE, BLUE], [RED, BLUE])
    statistics = {
        "net": {"palette": palette()(lab([BLUE, BLUE], [RED, RED], [RED, RED]), target)},
        "gray": {"palette": palette()(torch.zeros_like(target), target)},
    }
    per_image = {"net": {"psnr": [30.0, 31.0, 32.0]}, "gray": {"psnr": [20.0, 21.0, 22.0]}}
    results = records.results(per_image, ["one", "one", "two"], statistics)
    assert results["sets"]["one"] == {"psnr": 30.5, "palette": 0, "images": 2}
    assert results["sets"]["two"]["palette"] == pytest.approx(0.311278, abs=1e-6)
    assert results["test"]["palette"] == palette.summarize(statistics["net"]["palette"]).item()
    assert results["baselines"]["gray"]["palette"] == pytest.approx(1)
    assert results["baselines"]["gray"]["sets"]["two"] == {"psnr": 22.0, "palette": pytest.approx(1), "images": 1}
    records.record(tmp_path, results, ["a", "b", "c"], per_image)
    assert (tmp_path / "per_image.csv").read_text().splitlines()[0] == "file,psnr,gray_psnr"
