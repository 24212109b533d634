"""What the root scripts share: Hydra's command line, the schema, errors for people."""
