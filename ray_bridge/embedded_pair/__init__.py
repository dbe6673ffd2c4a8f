"""The checkpoints of the embedded pair, `source/` and `target/`, and the recipe that trained them."""
