"""What a run will do and what it costs. Nothing here knows how a backend works inside."""
