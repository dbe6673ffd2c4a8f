"""Statistics of trials: samples, paired tests, estimates, toggle effects, claims. Pure code."""
