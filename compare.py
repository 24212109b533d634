"""Compare the routes from gray to large color images: `python compare.py colorize=<run> sr=<run>`."""

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

    from srcolor import __version__, hardware, images, runs
    from srcolor.analysis import comparison, routes
    from srcolor.cli import schema
    from srcolor.errors import UserError, check_range
    from srcolor.runs import records
    from srcolor.tasks.adversarial import FITTED_ON
    from srcolor.training.samples import grid

    log = logging.getLogger("compare")
    schema.check(cfg)
    for key in ("colorize", "sr"):
        if OmegaConf.is_missing(cfg, key):
            raise UserError("two runs are needed: python compare.py colorize=<run> sr=<run>; see --help.")
    check_range("bootstrap", cfg.bootstrap, 100)
    check_range("pictures", cfg.pictures, 1)
    folder = Path(HydraConfig.get().runtime.output_dir)
    device = hardware.choose(cfg.accelerator).accelerator
    hardware.setup()

    # -- the networks -----------------------------------------------------------------------------
    names = {key: cfg[key] for key in schema.COMPARED if cfg[key] is not None}
    nets = {key: runs.load_net(run).to(device) for key, run in names.items()}
    scale = nets["sr"].scale
    enlarging = {"sr": (3, scale), "sr_gan": (3, scale), "chain": (1, scale)}
    for key, net in nets.items():
        if (net.inputs, net.scale) != enlarging.get(key, (1, 1)) or (key == "sr" and scale < 2):
            kinds = {
                "sr": "a super-resolution network",
                "sr_gan": f"a super-resolution network that enlarges by {scale}, as sr does",
                "chain": f"a chain from gray that enlarges by {scale}, as sr does",
            }
            raise UserError(
                f"{key}={names[key]} contains {type(net).__name__}, which takes {net.inputs} channel(s) and enlarges "
                f"by {net.scale}: expected {kinds.get(key, 'a color network')}."
            )
    sides = {"small": cfg.size // scale, "large": cfg.size}
    trained_at = {key: sides["small" if key in ("colorize", "colorize_gan") else "large"] for key in names}
    for key, run in names.items():
        side = runs.target_side(run)
        if side not in (None, trained_at[key]):
            raise UserError(
                f"{key}={run} was trained on {side}x{side} images, but size={cfg.size} and the scale of sr ({scale}) "
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
    optional = [nets.get(key) for key in ("colorize128", "chain", "colorize_gan", "sr_gan")]
    compared = routes.build(nets["colorize"], nets["sr"], *optional)
    floors = routes.floors(lambda: data.pairs("train", FITTED_ON), scale)
    for route in (*compared.values(), *floors.values()):
        route.net.to(device).eval()
    targets = [pair.target.to(device) for pair in data.pairs("test", cfg.pictures)]
    log.info("Measuring %d routes and %d floors", len(compared), len(floors))
    routes.measure({**compared, **floors}, (pair.target.to(device) for pair in data.pairs("test")), scale)

    # -- report -----------------------------------------------------------------------------------
    results = {
        "routes": routes.report(compared, sides, compared, cfg.bootstrap, cfg.seed),
        "floors": routes.report(floors, sides, compared, cfg.bootstrap, cfg.seed),
        "questions": {
            f"{one} - {other}": routes.difference(compared[one], compared[other], cfg.bootstrap, cfg.seed)
            for one, other in routes.QUESTIONS
            if {one, other} <= compared.keys()
        },
        "images": len(next(iter(compared.values())).values["psnr"]),
        "size": cfg.size,
        "scale": scale,
        "runs": {key: str(runs.checkpoint_file(run)) for key, run in names.items()},
        "version": __version__,
        "git": records.git_revision(),
    }
    sample = torch.cat(targets)[: cfg.pictures]
    gray = {"large": images.luma(sample), "small": images.luma(images.block_mean(sample, scale))}
    costs = {key: runs.train_figures(run) for key, run in names.items()}
    for name, route in {**compared, **floors}.items():
        row = (results["routes"] if name in compared else results["floors"])[name]
        row["peak_memory_mb"] = routes.route_memory_mb(route.net, gray[route.given][:1])
        row |= routes.trained([costs[key] for key in routes.BEHIND.get(name, ())])
    batch = sample[:1].expand(16, -1, -1, -1).contiguous()
    small = images.block_mean(batch, scale)
    trainable = runs.trained_on(names["colorize"]) is not None  # an external network is not trained here
    results["steps"] = [routes.step_cost(nets["colorize"], target) for target in (small, batch) if trainable]
    with torch.inference_mode():
        shown = {name: route.net(gray[route.given]).clamp(0, 1).cpu() for name, route in compared.items()}
    picture = grid({"gray": gray["large"].cpu(), **shown, "truth": sample.cpu()})
    records.write_picture(folder / "comparison.png", picture)
    comparison.write(folder, results)
    console = Console()
    for table in comparison.terminal(results):
        console.print(table)
    files = f"picture {folder / 'comparison.png'}\ntables  {folder / 'comparison.md'}, with intervals"
    console.print(files, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    launch.run(main, "compare", overrides.compare_args)
