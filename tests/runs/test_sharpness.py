"""The dial between the two networks of a run with an adversary."""

import json
import shutil

import pytest
import torch
from PIL import Image
from skimage import data

from srcolor import runs
from srcolor.errors import UserError
from srcolor.inference import export, predict
from srcolor.nets.blend import Blend


def test_the_output_is_blended_between_both_networks(gan_run):
    x = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    faithful, sharp = runs.load_reference(str(gan_run)), runs.load_net(str(gan_run))
    with torch.no_grad():
        ends = faithful(x), sharp(x)
        assert (ends[0] - ends[1]).abs().max() > 1e-6
        for sharpness, expected in ((0, ends[0]), (0.5, (ends[0] + ends[1]) / 2), (1, ends[1])):
            blended = runs.load_net(str(gan_run), sharpness)(x)
            torch.testing.assert_close(blended, expected, rtol=0, atol=1e-6)


def test_the_test_has_the_pixel_loss_network_and_its_competitors(gan_run, call_eval, tmp_path, capfd):
    results = json.loads((gan_run / "metrics.json").read_text())
    names = {"bicubic", "pixel_loss", "bicubic_projected", "unsharp_50", "unsharp_100", "unsharp_200"}
    assert set(results["baselines"]) == names
    folder = tmp_path / "test"
    assert call_eval(f"ckpt={gan_run}", "sharpness=0", f"hydra.run.dir={folder}") == 0
    again = json.loads((folder / "metrics.json").read_text())
    assert again["test"] == pytest.approx(results["baselines"]["pixel_loss"], rel=1e-4)


def test_an_exported_blend_keeps_both_networks(gan_run, tmp_path):
    file = tmp_path / "gan.safetensors"
    export.to_safetensors(str(gan_run), file, 1.0)
    x = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for sharpness in (None, 0.0, 0.5, 1.0):
            expected = runs.load_net(str(gan_run), sharpness)(x)
            torch.testing.assert_close(runs.load_net(str(file), sharpness)(x), expected, rtol=0, atol=1e-6)
    assert isinstance(runs.load_net(str(file)), Blend)


def test_the_command_line_has_the_dial(gan_run, tmp_path):
    Image.fromarray(data.astronaut()[:48, 200:248]).save(tmp_path / "photo.png")
    results = []
    for sharpness in ("0", "1"):
        args = [str(tmp_path / "photo.png"), "--run", str(gan_run), "--sharpness", sharpness, "--overwrite"]
        assert predict.main(args) == 0
        results.append(Image.open(tmp_path / "photo_upscale.png").tobytes())
    assert results[0] != results[1]


def test_sharpness_requires_an_adversarial_network(tiny_run, pictures, call_eval, tmp_path, capfd):
    with pytest.raises(UserError, match=r"sharpness=0\.5: .* has no adversarial network"):
        runs.load_net(str(tiny_run), 0.5)
    assert call_eval(f"ckpt={tiny_run}", "sharpness=0.5", f"hydra.run.dir={tmp_path / 'a'}") == 1
    assert "has no adversarial network" in capfd.readouterr().err
    photo = str(next(pictures.rglob("*.png")))
    assert predict.main([photo, "--run", str(tiny_run), "--sharpness", "0.5", "-o", str(tmp_path)]) == 2
    assert "has no adversarial network" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--sharpness", "2"], "--sharpness 2: expected a number from 0 to 1"),
    ],
)
def test_invalid_dials_are_refused(args, message, pictures, capfd):
    with pytest.raises(SystemExit):
        predict.parse([str(next(pictures.rglob("*.png"))), *args])
    assert message in capfd.readouterr().err


def test_the_dial_is_swept_by_one_command(gan_run, call_eval, tmp_path):
    assert call_eval(f"ckpt={gan_run}", "sharpness=0,1", "-m", f"hydra.sweep.dir={tmp_path / 'sweep'}") == 0
    tests = [
        json.loads(file.read_text())["test"]["psnr"] for file in sorted((tmp_path / "sweep").glob("*/metrics.json"))
    ]
    assert len(tests) == 2
    assert tests[0] > tests[1]


def test_sharpness_without_a_run_is_refused(gan_run, call_eval, tmp_path, capfd):
    chain = ["experiment=chain64to128", f"net.first.run={gan_run}", f"net.second.run={gan_run}", "sharpness=0.5"]
    assert call_eval(*chain, f"hydra.run.dir={tmp_path / 'a'}") == 1
    assert "sharpness= requires ckpt=<run>" in capfd.readouterr().err


SETTINGS = {
    "accumulation": (["trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches=2 is not supported"),
    "clipping": (["trainer.gradient_clip_val=1"], "trainer.gradient_clip_val=1 is not supported"),
    "fidelity": (["task.validated=[texture]"], "callbacks.best.fidelity: psnr is not computed during validation."),
    "crop": (["size=48"], "HaarCritic looks at 56x56 pixels, but the targets are 48x48"),
    "blend": (["init_from=BLEND"], "a blend of two networks. A run starts from one network."),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_invalid_settings_of_an_adversarial_run(name, gan_run, pictures, call, tmp_path, capfd):
    blend = tmp_path / "blend.safetensors"
    export.to_safetensors(str(gan_run), blend, 1.0)
    args, message = SETTINGS[name]
    args = [arg.replace("BLEND", str(blend)) for arg in args]
    shared = ["experiment=sr64to128_gan", "trainer=debug", "data=folder", f"data.root={pictures}", "data.min_side=48"]
    size = [] if name == "crop" else ["size=64"]
    assert call(*shared, *size, *args, f"hydra.run.dir={tmp_path / 'run'}") == 1
    error = capfd.readouterr().err
    assert message in " ".join(error.split())
    assert "Traceback" not in error


def test_an_experiment_with_an_adversary_runs_without_it(pictures, call, tmp_path):
    args = ["experiment=sr64to128_gan", "adversary=none", "trainer=debug", "size=64", "data.min_side=48"]
    assert call(*args, "data=folder", f"data.root={pictures}", f"hydra.run.dir={tmp_path / 'run'}") == 0
    assert runs.load_reference(str(tmp_path / "run")) is None


def test_an_adversarial_run_is_not_resumed_without_its_adversary(gan_run, call, tmp_path, capfd):
    run = tmp_path / "run"
    shutil.copytree(gan_run, run)
    assert call(f"resume={run}", "adversary=none", "trainer.max_epochs=9") == 1
    assert "the checkpoint has an adversary, but this run has none" in " ".join(capfd.readouterr().err.split())
