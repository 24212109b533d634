"""The literature's protocol: sets, low resolution, task, leak check, published results."""
