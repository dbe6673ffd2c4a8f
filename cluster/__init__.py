"""The command line, checks before a run, and launch on a cluster."""
