"""The checks of preflight, one subject a module: probes gather facts, and pure functions judge them."""
