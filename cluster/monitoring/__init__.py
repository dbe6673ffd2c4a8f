"""What follows a running campaign: progress, tracking, reports, and the summary at its end."""
