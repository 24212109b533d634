"""Compares the routes from gray to large colour images: `python compare.py colorize=<run> sr=<run>`."""

from omegaconf import DictConfig, OmegaConf

from srcolor.cli import launch, overrides


def main(cfg: DictConfig) -> None:
    """The story of one comparison."""
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
    from srcolor.tasks.colorization import FITTED_ON
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
    named = {key: cfg[key] for key in schema.COMPARED if cfg[key] is not None}
    nets = {key: runs.load_net(run).to(device) for key, run in named.items()}
    scale = nets["sr"].scale
    expected = {"colorize": (1, 1), "sr": (3, scale), "colorize128": (1, 1), "chain": (1, scale)}
    for key, net in nets.items():
        if (net.inputs, net.scale) != expected[key] or (key == "sr" and scale < 2):
            what = {
                "sr": "a super-resolution network",
                "chain": f"a chain from gray that enlarges by {scale}, as sr does",
            }
            raise UserError(
                f"{key}={named[key]} holds {type(net).__name__}, which takes {net.inputs} channel(s) and enlarges by "
                f"{net.scale}: expected {what.get(key, 'a colour network')}."
            )
    sides = {"small": cfg.size // scale, "large": cfg.size}
    trained_at = {key: sides["small" if key == "colorize" else "large"] for key in named}
    for key, run in named.items():
        side = runs.target_side(run)
        if side not in (None, trained_at[key]):
            raise UserError(
                f"{key}={run} was trained on images of {side}x{side}: expected {trained_at[key]}x{trained_at[key]}, as "
                f"size={cfg.size} and sr's scale {scale} say. Choose runs that belong together, or another size=."
            )

    # -- the images -------------------------------------------------------------------------------
    data = instantiate(cfg.data)
    data.setup()
    for key, run in named.items():
        known = runs.trained_on(run)
        if known is None:
            log.warning("%s=%s does not tell what it was trained on: perhaps on these test images", key, run)
        elif seen := data.overlap(known):
            raise UserError(
                f"{key}={run} was trained on {len(seen)} of the {len(data.digests('test'))} test images: {seen[0]}, "
                "for one. Train it with the data settings of the others, or choose other images with data=..."
            )
    data.write_splits(folder / "split.csv")

    # -- the routes -------------------------------------------------------------------------------
    ways = routes.build(nets["colorize"], nets["sr"], nets.get("colorize128"), nets.get("chain"))
    bottom = routes.floors(lambda: data.pairs("train", FITTED_ON), scale)
    for route in (*ways.values(), *bottom.values()):
        route.net.to(device).eval()
    targets = [pair.target.to(device) for pair in data.pairs("test", cfg.pictures)]
    log.info("Measuring %d routes and %d floors", len(ways), len(bottom))
    routes.measure({**ways, **bottom}, (pair.target.to(device) for pair in data.pairs("test")), scale)

    # -- report -----------------------------------------------------------------------------------
    told = {
        "routes": routes.report(ways, sides, ways, cfg.bootstrap, cfg.seed),
        "floors": routes.report(bottom, sides, ways, cfg.bootstrap, cfg.seed),
        "questions": {
            f"{one} - {other}": routes.difference(ways[one], ways[other], cfg.bootstrap, cfg.seed)
            for one, other in routes.QUESTIONS
            if other in ways
        },
        "images": len(next(iter(ways.values())).values["psnr"]),
        "size": cfg.size,
        "scale": scale,
        "runs": {key: str(runs.checkpoint_file(run)) for key, run in named.items()},
        "version": __version__,
        "git": records.git_revision(),
    }
    sample = torch.cat(targets)[: cfg.pictures]
    gray = {"large": images.luma(sample), "small": images.luma(images.block_mean(sample, scale))}
    figures = {key: runs.train_figures(run) for key, run in named.items()}
    for name, route in {**ways, **bottom}.items():
        row = (told["routes"] if name in ways else told["floors"])[name]
        row["peak_memory_mb"] = routes.route_memory_mb(route.net, gray[route.given][:1])
        row |= routes.trained([figures[key] for key in routes.BEHIND.get(name, ())])
    batch = sample[:1].expand(16, -1, -1, -1).contiguous()
    small = images.block_mean(batch, scale)
    told["steps"] = [routes.step_cost(nets["colorize"], target) for target in (small, batch)]
    with torch.inference_mode():
        shown = {name: route.net(gray[route.given]).clamp(0, 1).cpu() for name, route in ways.items()}
    picture = grid({"gray": gray["large"].cpu(), **shown, "truth": sample.cpu()})
    records.write_picture(folder / "comparison.png", picture)
    comparison.write(folder, told)
    console = Console()
    for table in comparison.terminal(told):
        console.print(table)
    files = f"picture {folder / 'comparison.png'}\ntables  {folder / 'comparison.md'}, with intervals"
    console.print(files, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    launch.run(main, "compare", overrides.compare_line)
