"""Arguments of the Trainer: schedules, progress bar, sample grids, speed, checkpoints, signals."""
