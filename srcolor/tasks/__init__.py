"""The LightningModules: how a network is trained and evaluated."""
