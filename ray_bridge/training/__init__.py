"""The training loop of one job: its parts, schedule, sessions, checkpoints and final evaluation."""
