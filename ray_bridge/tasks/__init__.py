"""Tasks: where examples come from, how they are prompted, and how an answer is scored."""
