"""The synthetic task of the embedded pair: problems, number words and templates."""
