"""The gate between phases: evidence, decision and policy. Pure code."""
