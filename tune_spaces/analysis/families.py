"""Which comparisons are corrected together."""

MOST_PAIRED = 8
"""Variants that are all compared with one another; with more, each is compared with the reference alone, as a sweep."""
