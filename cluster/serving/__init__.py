"""Serve a trained translator over HTTP with Ray Serve: an API as OpenAI's, and a page that compares conditions."""
