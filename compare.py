"""Compare the routes of a task to large outputs: `python compare.py [task=colorization] colorize=<run> sr=<run>`."""

from omegaconf import DictConfig, OmegaConf

from srcolor.cli import launch, overrides


def main(cfg: DictConfig) -> None:
    """Run one comparison."""
    import logging  # Imports here, so that --help and --cfg job need not wait for torch.
    from pathlib import Path

    import torch
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate
    from rich.console import Console

    from srcolor import __version__, hardware, runs
    from srcolor.analysis import comparison, routes, studies
    from srcolor.cli import schema
    from srcolor.errors import UserError, check_range
    from srcolor.images import Pair
    from srcolor.runs import records
    from srcolor.tasks.base import FITTED_ON
    from srcolor.training.samples import grid

    log = logging.getLogger("compare")
    schema.check(cfg)
    study = studies.load(task := HydraConfig.get().runtime.choices.compare)
    required = study.required()
    if any(OmegaConf.is_missing(cfg, key) for key in required):
        needed = "a run is" if len(required) == 1 else "two runs are"
        raise UserError(f"{needed} needed: python compare.py {schema.usage(task)}; see --help.")
    check_range("bootstrap", cfg.bootstrap, 100)
    check_range("pictures", cfg.pictures, 1)
    folder = Path(HydraConfig.get().runtime.output_dir)
    device = hardware.choose(cfg.accelerator).accelerator
    hardware.setup()

    # -- the networks -----------------------------------------------------------------------------
    names = {key.name: cfg[key.name] for key in study.keys if cfg[key.name] is not None}
    nets = {key: runs.load_net(run).to(device) for key, run in names.items()}
    scale = study.scale(nets, names, cfg.size)
    for key, net in nets.items():
        if (kind := study.expected(key, net, nets, scale)) is not None:
            raise UserError(
                f"{key}={names[key]} contains {type(net).__name__}, which takes {net.inputs} channel(s) and enlarges "
                f"by {net.scale}: expected {kind}."
            )
    sides = {"small": cfg.size // scale, "large": cfg.size}
    trained_at = {key.name: sides[key.size] for key in study.keys}
    for key, run in names.items():
        side = runs.target_side(run)
        if side not in (None, trained_at[key]):
            raise UserError(
                f"{key}={run} was trained on {side}x{side} images, but size={cfg.size} and a factor of {scale} "
                f"require {trained_at[key]}x{trained_at[key]}. Choose matching runs or change size=."
            )

    # -- the images -------------------------------------------------------------------------------
    data = instantiate(cfg.data)
    data.setup()
    for key, run in names.items():
        trained_on = runs.trained_on(run)
        if trained_on is None:
            log.warning("%s=%s: the training images are unknown and may include these test images", key, run)
        elif leaked := data.overlap(trained_on):
            raise UserError(
                f"{key}={run} was trained on {len(leaked)} of the {len(data.digests('test'))} test images, e.g. "
                f"{leaked[0]}. Train it with the same data settings as the others, or choose different images with "
                "data=..."
            )
    data.write_splits(folder / "split.csv")

    # -- the routes -------------------------------------------------------------------------------
    compared = study.routes(nets, scale)
    floors = study.floors(nets, lambda: data.pairs("train", FITTED_ON), scale)
    for route in (*compared.values(), *floors.values()):
        route.net.to(device).eval()
    log.info("Measuring %d routes and %d floors", len(compared), len(floors))
    test = (Pair(*(part.to(device) for part in pair)) for pair in data.pairs("test"))
    count = routes.measure(study, {**compared, **floors}, test, scale)

    # -- report -----------------------------------------------------------------------------------
    pictures = routes.pictures([data.name("test", row) for row in range(count)])
    bootstrap = routes.Bootstrap(pictures, cfg.bootstrap, cfg.seed)
    results = {
        "task": task,
        "routes": routes.report(study, compared, sides, compared, bootstrap),
        "floors": routes.report(study, floors, sides, compared, bootstrap),
        "questions": {
            f"{one} - {other}": routes.difference(compared[one], compared[other], bootstrap)
            for one, other in study.questions
            if {one, other} <= compared.keys()
        },
        "images": count,
        "pictures": len(set(pictures.tolist())),
        "size": cfg.size,
        "scale": scale,
        "runs": {key: str(runs.checkpoint_file(run)) for key, run in names.items()},
        "version": __version__,
        "git": records.git_revision(),
    }
    batches = zip(*data.pairs("test", cfg.pictures), strict=True)
    sample = Pair(*(torch.cat(parts)[: cfg.pictures].to(device) for parts in batches))
    inputs = study.inputs(sample, scale)
    costs = {key: runs.train_figures(run) for key, run in names.items()}
    for name, route in {**compared, **floors}.items():
        row = (results["routes"] if name in compared else results["floors"])[name]
        row["peak_memory_mb"] = routes.route_memory_mb(route.net, inputs[route.given][:1])
        row |= routes.trained([costs[key] for key in route.keys])
    batch = Pair(*(part[:1].expand(16, *part.shape[1:]).contiguous() for part in sample))
    first = study.keys[0].name
    trainable = runs.trained_on(names[first]) is not None  # an external network is not trained here
    steps = study.step_pairs(batch, scale) if trainable else []
    results["steps"] = [routes.step_cost(nets[first], study.loss(), pair) for pair in steps]
    with torch.inference_mode():
        shown = {name: study.prediction(route.net(inputs[route.given])) for name, route in compared.items()}
    picture = grid(study.columns(sample, shown))
    records.write_picture(folder / "comparison.png", picture)
    comparison.write(folder, results)
    console = Console()
    for table in comparison.terminal(results):
        console.print(table)
    files = f"picture {folder / 'comparison.png'}\ntables  {folder / 'comparison.md'}, with intervals"
    console.print(files, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    launch.run(main, "compare", overrides.compare_args)
