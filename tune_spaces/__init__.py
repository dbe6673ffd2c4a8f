"""Toggles, variants, phases, and the campaign that runs them on Ray Tune."""
