"""What runs: toggles, variants, phases, the plan and its cost."""
