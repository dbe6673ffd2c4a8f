"""Bring a campaign folder's records to an MLflow store; any process can resume after any interruption."""
