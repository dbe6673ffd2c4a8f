"""Tasks: their examples, prompts and scoring."""
