"""What exists only for speed on a GPU: deleting it leaves a slower project that works."""
