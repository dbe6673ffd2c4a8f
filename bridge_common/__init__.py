"""The base every package stands on: user errors, atomic files, intervals, repeated looks."""
