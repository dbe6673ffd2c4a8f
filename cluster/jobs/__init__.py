"""Submitting a phase as a Ray job and following its log."""
