"""Job and run specs, presets, fingerprints and checkpoint names."""
