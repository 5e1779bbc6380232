"""What is scored: one file per kind, each owning its steps from units to products."""
