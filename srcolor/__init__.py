"""srcolor: train, chain and evaluate networks that super-resolve and colorize images."""

__version__ = "0.1.0"
