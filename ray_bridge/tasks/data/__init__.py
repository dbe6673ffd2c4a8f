"""Rows of data sets, from folders and from the hub, checked as they are read."""
