"""Follow a running campaign: progress, tracking and reports, and the summary at its end."""
