"""What the Trainer is given: schedules, progress bar, sample grids, speed, checkpoints, signals."""
