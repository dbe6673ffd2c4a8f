"""The code that trained the embedded pair; jobs only read its checkpoints."""
