"""Train a network, test it, and report: `python train.py experiment=sr64to128`."""

from omegaconf import DictConfig

from srcolor.cli import launch, overrides


def main(cfg: DictConfig) -> None:
    """Train and test one network."""
    import logging  # Imports here, so that --help and --cfg job need not wait for torch.

    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from srcolor import runs
    from srcolor.cli.session import Session
    from srcolor.errors import UserError, nearest
    from srcolor.metrics import MEASURES, higher_is_better
    from srcolor.runs import records

    log = logging.getLogger("train")
    session = Session(cfg)
    trainer, data, folder = session.trainer, session.data, session.folder
    if cfg.trainer.max_time is None and max(cfg.trainer.max_steps, cfg.trainer.max_epochs or -1) < 1:
        raise UserError(
            "no training budget: set trainer.max_time=DD:HH:MM:SS, trainer.max_steps=... or trainer.max_epochs=..."
        )
    start = runs.start(OmegaConf.to_container(cfg.net, resolve=True), cfg.resume, cfg.init_from)
    session.setup("fit")
    if cfg.trainer.max_time is not None:
        log.info(
            "Training is limited by time, so a rerun ends with different weights. For exact reproducibility on a CPU, "
            "set trainer.max_steps or trainer.max_epochs."
        )

    # -- build ------------------------------------------------------------------------------------
    net = runs.build_net(start.net_config) if start.state is not None else instantiate(cfg.net)
    task = session.task(start.prepare(net))
    metrics = [f"val/{name}" for name in task.validated]
    if cfg.monitor not in metrics:
        measure = MEASURES.get(cfg.monitor.removeprefix("val/"))
        missing = None if measure is None else measure.missing()
        raise UserError(
            f"monitor={cfg.monitor} is not computed during validation. {missing or nearest(cfg.monitor, metrics)}"
        )
    task.net_config = start.net_config
    own_record = data.trained_on()
    inherited_records = start.records(own_record)
    task.trained_on = [own_record, *inherited_records]
    if start.state is not None:
        state = dict(start.state)
        task.on_load_checkpoint(state)
        runs.load_weights(task, state["state_dict"], str(start.checkpoint))

    # -- train ------------------------------------------------------------------------------------
    trainer.fit(task, data, ckpt_path=start.checkpoint, weights_only=True)
    nothing_left = start.state is not None and trainer.global_step == start.state["global_step"]
    if nothing_left and (folder / "metrics.json").exists():  # else it was stopped in its test
        if any(getattr(callback, "finished", False) for callback in trainer.callbacks):
            raise UserError(
                f"resume={cfg.resume}: its stop rule ended the adversarial training. Start a new run from it with "
                f"init_from={cfg.resume}, or test it with: python eval.py ckpt={cfg.resume}"
            )
        raise UserError(
            f"resume={cfg.resume}: its budget is spent. Increase trainer.max_time=..., trainer.max_steps=... or "
            f"trainer.max_epochs=..., or test the run with: python eval.py ckpt={cfg.resume}"
        )

    # -- test the best network, loaded as a user would load it ------------------------------------
    best = runs.read(runs.checkpoint_file(str(folder)))
    log.info("Testing the best network, of step %d", best["global_step"])
    validation = {
        "metric": cfg.monitor.removeprefix("val/"),
        "value": runs.best_score(best, cfg.monitor),
        "higher_is_better": higher_is_better(cfg.monitor),
    }
    net = runs.load_net(str(folder))
    session.test(net, [inherited_records], [own_record], validation, runs.load_reference(str(folder)))
    if trainer.is_global_zero:
        modes = {(True, False): "upscale", (False, True): "colorize"}
        records.show_next(folder, modes.get((net.scale > 1, net.inputs == 1)))


if __name__ == "__main__":
    launch.run(main, "train", overrides.train_args)
