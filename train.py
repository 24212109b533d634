"""Trains a network, tests it, and reports: `python train.py experiment=sr64to128`."""

from omegaconf import DictConfig

from srcolor.cli import launch, overrides


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

    from srcolor import hardware, nets, runs
    from srcolor.benchmark import published
    from srcolor.cli import schema
    from srcolor.errors import UserError, check_range, nearest
    from srcolor.metrics import higher_is_better
    from srcolor.runs import records, tensorboard
    from srcolor.tasks.base import Task
    from srcolor.training import speed

    log = logging.getLogger("train")
    for name in ("lightning.pytorch", "lightning.fabric"):  # advertisements, and each line twice
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).handlers.clear()
    # With the cache a batch is one gather: a worker process would only cost a copy.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    # Lightning calls what PyTorch 2.15 renamed: github.com/Lightning-AI/pytorch-lightning, `_pytree.py`.
    warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")
    # Our metrics gather what all processes measured by themselves.
    warnings.filterwarnings("ignore", ".*when logging on epoch level in distributed setting.*")
    # A resumed run writes where it wrote before.
    warnings.filterwarnings("ignore", ".*exists and is not empty.*")
    schema.check(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    check_range("seed", cfg.seed, 0, 2**32 - 1)
    if cfg.fit and cfg.trainer.max_time is None and max(cfg.trainer.max_steps, cfg.trainer.max_epochs or -1) < 1:
        raise UserError("no budget: give trainer.max_time=DD:HH:MM:SS, trainer.max_steps=... or trainer.max_epochs=...")
    for key, instead in (
        ("fast_dev_run", "trainer=debug, two batches of everything,"),
        ("overfit_batches", "trainer.limit_train_batches=2"),
    ):
        if cfg.trainer.get(key):
            raise UserError(
                f"trainer.{key} would skip the sampler or the checkpoints of srcolor. Use {instead} instead."
            )
    lightning.seed_everything(cfg.seed)
    hardware.setup()

    # -- compose ----------------------------------------------------------------------------------
    several = "strategy" in cfg.trainer
    machine = hardware.choose(cfg.trainer.accelerator, cfg.trainer.precision, processes=2 if several else 1)
    logger = TensorBoardLogger(folder, name="", version="")
    trainer = instantiate(
        cfg.trainer,
        accelerator=machine.accelerator,
        precision=machine.precision,
        max_time=None,  # see callbacks.timer
        **({"sync_batchnorm": cfg.trainer.sync_batchnorm and machine.accelerator == "cuda"} if several else {}),
        logger=logger,
        callbacks=[instantiate(node) for node in cfg.callbacks.values() if node is not None],
    )
    if trainer.num_devices > 1 and "strategy" not in cfg.trainer:
        raise UserError(f"trainer.devices={cfg.trainer.devices}: for several devices give trainer=ddp too.")
    begin = {key: runs.checkpoint_file(cfg[key]) for key in ("ckpt", "init_from") if cfg[key] is not None}
    data = instantiate(cfg.data)
    data.setup()
    if trainer.is_global_zero:
        data.write_splits(folder / "split.csv")
    begun_from = [cfg.ckpt] if cfg.ckpt is not None else [cfg.init_from, *runs.parts(OmegaConf.to_container(cfg.net))]
    if cfg.resume is not None:
        begun_from = []  # its checkpoint tells
    told = [runs.trained_on(run) for run in begun_from if run is not None]  # None: not known
    before = [record for records in told for record in records or []]
    log.info("%s", machine)
    if trainer.is_global_zero:
        root = {} if data.folder is None else {"data.root": str(data.folder)}
        runs.record_settings(folder, {**root, "trainer.precision": machine.precision})
        tensorboard.write_page(logger, runs.overrides(folder), cfg)

    def make_task(net: torch.nn.Module) -> Task:
        if several and machine.accelerator == "cpu" and any("BatchNorm" in type(m).__name__ for m in net.modules()):
            log.warning("BatchNorm on CPUs: each process normalizes by its own part of the batch")
        if machine.channels_last:
            net = net.to(memory_format=torch.channels_last)
        if cfg.compile:
            net.compile()
        return instantiate(cfg.task, net=net)

    # -- fit --------------------------------------------------------------------------------------
    if cfg.fit:
        if cfg.trainer.max_time is not None:
            log.info("A budget in time: a second run ends with other weights. Steps or epochs repeat exactly on a CPU.")
        last = None if cfg.resume is None else runs.checkpoint_file(cfg.resume, "last")
        saved = None if last is None else runs.read(last)
        known = None if saved is None else saved["net_config"]
        net_config = runs.resolve(OmegaConf.to_container(cfg.net, resolve=True), known)
        # The runs that a network was made of may be gone by the time that it is resumed.
        net = (instantiate(cfg.net) if last is None else runs.build_net(net_config)).train()
        if cfg.init_from is not None:
            log.info("Starting from %s", begin["init_from"])
            start = runs.load_net(str(begin["init_from"]))
            runs.load_weights(net, start.state_dict(), str(begin["init_from"]))
        spent = None if saved is None else runs.spent_budget(saved, cfg.trainer)
        if spent is not None and (folder / "metrics.json").exists():
            raise UserError(
                f"resume={cfg.resume}: its budget trainer.{spent}={cfg.trainer[spent]} is spent. Give a larger "
                f"trainer.{spent}=..., or test the run with fit=false ckpt={cfg.resume}."
            )
        task = make_task(net)
        figures = [f"val/{name}" for name in task.validated]
        if cfg.monitor not in figures:
            raise UserError(f"monitor={cfg.monitor}: no such figure. {nearest(cfg.monitor, figures)}")
        task.net_config = net_config
        own = data.trained_on()
        if saved is not None:  # perhaps with other data
            before = [record for record in saved.get("trained_on", ()) if not runs.same_record(record, own)]
        task.trained_on = [own, *before]
        if saved is not None:
            runs.load_weights(task, saved["state_dict"], str(last))
        if spent is None:  # else it was stopped in its test
            trainer.fit(task, data, ckpt_path=last, weights_only=True)
        trained = runs.checkpoint_file(str(folder))
        best = runs.read(trained)
        validation = {
            "metric": cfg.monitor.removeprefix("val/"),
            "value": runs.best_score(best, cfg.monitor),
            "higher_is_better": higher_is_better(cfg.monitor),
        }
        log.info("Testing the best network, of step %d", best["global_step"])
    else:
        validation, trained = None, begin.get("ckpt")
        log.info("Testing %s", trained or cfg.net)

    # -- test, the network as anybody loads it ----------------------------------------------------
    net = instantiate(cfg.net) if trained is None else runs.load_net(str(trained))
    task = make_task(net)
    trainer.test(task, data, verbose=False)
    if seen := data.overlap(before):
        log.warning("%d test picture(s) were trained on, by this network or one before it: %s, ...", len(seen), seen[0])

    # -- report -----------------------------------------------------------------------------------
    if not trainer.is_global_zero:
        return
    sets = data.sets(task.rows)
    metrics = records.results(task.per_image, sets, task.statistics)
    metrics["validation"] = validation
    metrics["parameters"] = sum(p.numel() for p in nets.fused(net).parameters())
    metrics["train"] = speed.figures(trainer)
    names = [data.name("test", row) for row in task.rows]
    records.record(folder, metrics, names, task.per_image)
    tensorboard.write_row(logger, HydraConfig.get().runtime.choices, cfg, metrics["test"], trainer.global_step)
    seen = {bytes(row) for record in before for row in record["files"].numpy()}
    pictures = None if None in told else len(seen)
    table = published.table(metrics, type(net).__name__, pictures, cfg.scale) if sets else None
    records.show(folder, metrics, type(net).__name__, table)
    if cfg.fit:
        modes = {(True, False): "upscale", (False, True): "colorize"}
        records.show_next(folder, modes.get((net.scale > 1, net.inputs == 1)))


if __name__ == "__main__":
    launch.run(main, "train", overrides.train_line)
