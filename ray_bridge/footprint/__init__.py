"""What a job needs before it runs: positions of both models' contexts, and bytes of memory by part.

Pure arithmetic on configurations and lengths, without PyTorch: `plan` answers on a laptop.
"""
