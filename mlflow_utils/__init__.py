"""What is recorded, under which names, and how it reaches MLflow and people."""
