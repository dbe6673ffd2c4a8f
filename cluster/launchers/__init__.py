"""Launchers: files that start a phase under Slurm, KubeRay or `ray up`, and the commands that submit them."""
