"""schedules.yaml in, definitions or problems out."""
