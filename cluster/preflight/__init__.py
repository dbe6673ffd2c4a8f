"""What preflight looks at, one idea a module. Probes gather facts; judgements are pure functions of those facts."""
