"""What the Trainer is given: schedules and callbacks."""
