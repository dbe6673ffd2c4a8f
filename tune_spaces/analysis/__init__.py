"""Statistics of trials: samples, paired tests, bootstrap, toggle effects, claims. Pure code."""
