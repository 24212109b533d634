"""Test a network: `python eval.py ckpt=<run> [data=...]`."""

from srcolor.cli import launch, overrides
from train import main

if __name__ == "__main__":
    launch.run(main, "eval", overrides.eval_line)
