"""Answers written in LaTeX: their boxes, their notation, and what kind of answer they are."""
