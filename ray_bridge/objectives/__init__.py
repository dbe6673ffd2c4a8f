"""The training objective: its terms, one module each, their weights, and what a step computes for them."""
