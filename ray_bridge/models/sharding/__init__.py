"""A frozen model spread over several processes: each holds a part of every layer (tensor parallelism)."""
