"""What a job needs before it runs: positions of both models' contexts, bytes of memory by part, FLOPs and time.

Pure arithmetic on configurations, lengths and measured rates: `plan` answers on a laptop.
"""
