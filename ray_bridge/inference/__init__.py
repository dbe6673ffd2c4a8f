"""Use a trained translator: load it, answer questions of one's own, export it, and check what was exported."""
