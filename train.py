"""Trains a network, tests it, and reports: `python train.py experiment=sr64to128`."""

from omegaconf import DictConfig

from srcolor import launch


def main(cfg: DictConfig) -> None:
    """The story of one run."""
    import logging  # Imports here, so that --help and --cfg job need not wait for torch.
    import warnings
    from pathlib import Path

    import lightning
    import torch
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate
    from lightning.pytorch.loggers import TensorBoardLogger
    from omegaconf import OmegaConf

    from srcolor import callbacks, config, hardware, runs
    from srcolor.errors import UserError
    from srcolor.tasks.base import Task

    log = logging.getLogger("train")
    for name in ("lightning.pytorch", "lightning.fabric"):  # advertisements, and each line twice
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).handlers.clear()
    # With the cache a batch is one gather: a worker process would only cost a copy.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    # Lightning calls what PyTorch 2.15 renamed: github.com/Lightning-AI/pytorch-lightning, `_pytree.py`.
    warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")
    config.check(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    lightning.seed_everything(cfg.seed, workers=True)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32: training has bfloat16 for speed

    # -- compose ----------------------------------------------------------------------------------
    data = instantiate(cfg.data)
    data.setup()
    data.write_splits(folder / "split.csv")
    if "root" in cfg.data:
        runs.pin(folder, "data.root", launch.quote(str(data.folder)))
    machine = hardware.choose(cfg.trainer.accelerator, cfg.trainer.precision)
    log.info("%s", machine)
    if cfg.fit and cfg.trainer.max_time is not None:
        log.info("A budget in time: the same command ends with other weights. Steps or epochs repeat exactly on a CPU.")

    def make_task(net: torch.nn.Module) -> Task:
        if machine.channels_last:
            net = net.to(memory_format=torch.channels_last)
        if cfg.compile:
            net.compile()
        return instantiate(cfg.task, net=net)

    speed = callbacks.Speed()
    trainer = instantiate(
        cfg.trainer,
        accelerator=machine.accelerator,
        precision=machine.precision,
        logger=TensorBoardLogger(folder, name="", version=""),
        callbacks=[*(instantiate(node) for node in cfg.callbacks.values() if node is not None), speed],
    )

    # -- fit --------------------------------------------------------------------------------------
    if cfg.fit:
        net = instantiate(cfg.net)
        if cfg.init_from is not None:
            start = runs.load_net(cfg.init_from)
            runs.load_weights(net, start.state_dict(), cfg.init_from)
        last = None if cfg.resume is None else runs.checkpoint_file(cfg.resume, "last")
        if last is not None and (key := runs.spent_budget(runs.read(last), cfg.trainer)):
            raise UserError(
                f"resume={cfg.resume}: its budget trainer.{key}={cfg.trainer[key]} is spent. Give a larger "
                f"trainer.{key}=..., or test the run with fit=false ckpt={cfg.resume}."
            )
        task = make_task(net)
        figures = [f"val/{name}" for name in task.metrics]
        if cfg.monitor not in figures:
            raise UserError(f"monitor={cfg.monitor}: no such figure. {config.nearest(cfg.monitor, figures)}")
        task.net_config = OmegaConf.to_container(cfg.net, resolve=True)
        trainer.fit(task, data, ckpt_path=last, weights_only=True)
        trained = folder
    else:
        trained = cfg.ckpt

    # -- test, the network as anybody loads it ----------------------------------------------------
    net = runs.load_net(str(trained))
    task = make_task(net)
    trainer.test(task, data, verbose=False)

    # -- report -----------------------------------------------------------------------------------
    metrics = runs.results(task.per_image, list(task.baselines))
    metrics["parameters"] = sum(p.numel() for p in net.parameters())
    metrics["train"] = speed.figures
    names = [data.name("test", row) for row in task.per_image["row"]]
    runs.record(folder, metrics, names, task.per_image)
    runs.show(folder, metrics, type(net).__name__)


if __name__ == "__main__":
    launch.run(main, "train")
