"""Search for better settings of train.py: `python tune.py experiment=sr64to128 hparams=sr trials=40`."""

from omegaconf import DictConfig

from srcolor.cli import launch, overrides


def main(cfg: DictConfig) -> None:
    """Run one search."""
    import logging  # Imports here, so that --help and --cfg job need not wait for torch.
    import shlex
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig
    from rich.console import Console
    from rich.table import Table

    from srcolor.errors import UserError, check_range, install_extra
    from srcolor.metrics import higher_is_better

    try:
        from srcolor.analysis import tuning
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed. Run: {install_extra('sweep')}") from error

    log = logging.getLogger("tune")
    check_range("trials", cfg.trials, 1)
    folder = Path(HydraConfig.get().runtime.output_dir)
    distributions = tuning.space(cfg)
    args = HydraConfig.get().overrides.task
    shared = [arg for arg in args if arg.split("=")[0].split(".")[0] not in ("hparams", "trials")]
    study = tuning.open_study(folder, distributions, shared, cfg.monitor, cfg.seed)

    # -- search -----------------------------------------------------------------------------------
    while len(tuning.finished(study)) < cfg.trials:
        trial = study.ask(distributions)
        run = folder / f"trial{trial.number:03d}"
        settings = tuning.overrides(trial.params)
        log.info("Trial %d: %s", trial.number, " ".join(settings))
        prune = {"_target_": "srcolor.analysis.tuning.Prune", "folder": str(folder), "monitor": cfg.monitor}
        callback = [f"+callbacks.prune.{key}={overrides.quote(value)}" for key, value in prune.items()]
        callback.append(f"+callbacks.prune.trial={trial.number}")
        code = launch.call(["train.py", *shared, *settings, *callback, f"hydra.run.dir={overrides.quote(str(run))}"])
        state = tuning.settle(study, trial, code)
        failed = [t for t in tuning.finished(study) if t.state == tuning.TrialState.FAIL]
        if len(failed) == len(tuning.finished(study)) >= 3:
            raise UserError(
                f"all of the first {len(failed)} trials failed; the last error is shown above and in {run}/error.txt."
            )
        log.info("Trial %d: %s", trial.number, state.name.lower())

    # -- report -----------------------------------------------------------------------------------
    done = study.get_trials(states=(tuning.TrialState.COMPLETE,))
    if not done:
        raise UserError("no trial completed. Run more with trials=...")
    tuning.plot(study, folder, cfg.monitor)
    states = [trial.state.name.lower() for trial in tuning.finished(study)]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "fail"))
    table = Table("trial", cfg.monitor, *distributions, title=f"{len(states)} trials: {counts}", title_justify="left")
    for trial in sorted(done, key=lambda t: t.value, reverse=higher_is_better(cfg.monitor))[:5]:
        values = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in trial.params.values()]
        table.add_row(str(trial.number), f"{trial.value:.4f}", *values)
    console = Console()
    console.print(table)
    best = shlex.join(["python", "train.py", *shared, *tuning.overrides(study.best_params)])
    console.print(f"plots {folder}/*.png\nbest  {best}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    launch.run(main, "tune", overrides.tune_args)
