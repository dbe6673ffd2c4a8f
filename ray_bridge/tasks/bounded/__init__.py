"""Calls of functions that may never return, in processes that are limited and killed."""
