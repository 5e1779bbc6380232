"""What a worker imports: tasks, reading, scoring, committing. Nothing here plans a run."""
