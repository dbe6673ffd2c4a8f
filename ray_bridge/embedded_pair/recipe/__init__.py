"""The code that trained the embedded pair."""
