"""What a job is: its specs, presets and fingerprint, the names of checkpoints, and plug-ins."""
