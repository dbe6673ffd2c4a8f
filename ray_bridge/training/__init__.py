"""The training loop of one job: trainer, checkpoints, sessions and schedule."""
