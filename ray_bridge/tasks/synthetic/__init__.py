"""The synthetic task of the embedded pair: number words, templates and problems."""
