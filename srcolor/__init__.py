"""srcolor: train, chain and judge networks that super-resolve and colourize images."""

__version__ = "0.1.0"
