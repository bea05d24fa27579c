"""The job types that schedules.yaml ships with: ordinary user code over `from runner import ...`."""
