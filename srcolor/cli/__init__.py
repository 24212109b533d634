"""The shared parts of the root scripts: Hydra's command line, the schema, user errors."""
