"""The standard benchmark protocol: sets, low resolution, task, leak check, published results."""
