"""Test a network: `python eval.py ckpt=<run> [data=...]`."""

from omegaconf import DictConfig

from srcolor.cli import launch, overrides


def main(cfg: DictConfig) -> None:
    """Run one test."""
    import logging  # Imports here, so that --help and --cfg job need not wait for torch.

    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from srcolor import runs
    from srcolor.cli.session import Session
    from srcolor.errors import UserError
    from srcolor.nets.ensemble import Ensemble

    session = Session(cfg)
    if cfg.ckpt is None and cfg.sharpness is not None:
        raise UserError("sharpness= requires ckpt=<run>; for a part of a chain, use +net.second.sharpness=...")
    # Without ckpt, the network is a chain of trained ones.
    names = [cfg.ckpt] if cfg.ckpt is not None else runs.parts(OmegaConf.to_container(cfg.net))
    trained_on = [runs.trained_on(name) for name in names]
    net = instantiate(cfg.net) if cfg.ckpt is None else runs.load_net(cfg.ckpt, cfg.sharpness)
    if cfg.ensemble and net.scale == 1:
        raise UserError(f"ensemble=true: expected a super-resolution network, got {type(net).__name__} of scale 1.")
    net = Ensemble(net) if cfg.ensemble else net
    reference = None if cfg.ckpt is None else runs.load_reference(cfg.ckpt)
    session.setup("test")
    logging.getLogger("eval").info("Testing %s", " and ".join(str(runs.checkpoint_file(name)) for name in names))
    session.test(net, trained_on, reference=reference)


if __name__ == "__main__":
    launch.run(main, "eval", overrides.eval_args)
