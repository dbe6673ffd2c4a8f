"""From a campaign folder to an MLflow store, resumable after any interruption."""
