import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_adversarial import make_task as make_adversarial_task
from test_color_codes import ColorData
from test_color_codes import make_task as make_codes_task
from test_tasks import make_task
from tiny_data import TinyData, fit

from srcolor.training import samples
from srcolor.training.samples import AdversarialSampleGrid, CodesSampleGrid, SampleGrid


class Wandb(WandbLogger):
    """Record the logged images; the package is not installed."""

    def __init__(self):
        self.logged = []

    def log_image(self, key, images, step=None):
        self.logged.append((key, *images, step))


class Client:
    def __init__(self):
        self.logged = []

    def log_image(self, run_id, image, artifact_file=None, *, key=None, step=None):
        self.logged.append((run_id, key, image, step))


class MLFlow(MLFlowLogger):
    """The same for MLflow, whose client takes the images."""

    run_id = "7"
    experiment = None

    def __init__(self):
        self.experiment = Client()


def test_every_logger_that_takes_images_gets_them(tmp_path):
    wandb, mlflow = Wandb(), MLFlow()
    board = TensorBoardLogger(tmp_path, name="", version="")
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    for logger in (wandb, mlflow, board, CSVLogger(tmp_path)):
        samples.log_image(logger, "samples/val", image, 12)
    board.finalize("success")
    assert wandb.logged == [("samples/val", image, 12)]
    assert mlflow.experiment.logged == [("7", "samples/val", image, 12)]
    (event,) = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload().Images("samples/val")
    assert (event.step, event.width, event.height) == (12, 4, 4)


def test_grids_are_drawn_at_validations_whose_number_is_a_power_of_two_and_at_the_test(tmp_path):
    task, grid = make_task(), SampleGrid(str(tmp_path / "samples"), images=1)
    trainer = fit(task, TinyData(batches=1), tmp_path, [grid], max_epochs=5)
    trainer.test(task, TinyData(), verbose=False)
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == ["test.png", *(f"val_step{step:07d}.png" for step in (1, 2, 4))]


def test_grids_of_adversarial_training_are_drawn_at_every_validation(tmp_path):
    shown = []

    class Grid(AdversarialSampleGrid):
        def columns(self, batch, predictions):
            columns = super().columns(batch, predictions)
            shown.append((list(columns), columns["pixel loss"]))
            return columns

    task = make_adversarial_task(start=0.3, critic_steps=0)
    fit(task, TinyData(batches=2, side=32), tmp_path, [Grid(str(tmp_path / "samples"), images=1)], max_epochs=4)
    assert len(list((tmp_path / "samples").iterdir())) == 4
    before, *parts = [headings for headings, _ in shown]
    assert before == ["input 16x16", "pixel loss", "target"]
    assert parts == [["input 16x16", "pixel loss", "adversarial", "target"]] * 3
    images = [image for _, image in shown[1:]]
    assert all(torch.equal(image, images[0]) for image in images)  # the same images by the same network


def test_grids_of_color_codes_show_six_samples_at_every_validation(tmp_path):
    shown = []

    class Grid(CodesSampleGrid):
        def columns(self, batch, predictions):
            columns = super().columns(batch, predictions)
            shown.append(columns)
            return columns

    task, grid = make_codes_task(), Grid(str(tmp_path / "samples"), images=2)
    trainer = fit(task, ColorData(), tmp_path, [grid], max_epochs=3)
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == [f"val_step{step:07d}.png" for step in (4, 8, 12)]
    trainer.test(task, ColorData(), verbose=False)
    assert (tmp_path / "samples" / "test.png").exists()
    headings = ["gray", "stable", *(f"sample {number}" for number in range(1, 7)), "truth"]
    assert [list(columns) for columns in shown] == [headings] * 4
    batch = next(iter(ColorData().test_dataloader()))
    with torch.no_grad():
        samples = task.codes_net.samples(batch.input[:2], 6, 1, batch.row[:2].tolist())
        stable = task.codes_net(batch.input[:2])
    last = shown[-1]
    torch.testing.assert_close(last["stable"], stable, rtol=0, atol=1e-5)
    torch.testing.assert_close(last["sample 3"], samples[:, 2], rtol=0, atol=1e-5)
    assert torch.equal(last["gray"], batch.input[:2])
    assert torch.equal(last["truth"], batch.target[:2])


def test_a_grid_has_a_column_per_heading_and_enlarges_without_smoothing():
    small = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    picture = samples.grid({"gray": small, "large": torch.full((1, 3, 2, 4), 0.5)}, gap=2)
    assert picture.size == (4 + 2 + 4, 18 + 2)
    pixels = np.asarray(picture)[18:]
    assert pixels[:, :4, 0].tolist() == [[0, 0, 255, 255]] * 2
    assert pixels[:, 4:6].min() == 255
    assert pixels[:, 6:].tolist() == [[[128] * 3] * 4] * 2


def test_a_grid_needs_a_row(tmp_path):
    with pytest.raises(ValueError, match=r"callbacks\.pictures\.images=0"):
        SampleGrid(str(tmp_path), images=0)
