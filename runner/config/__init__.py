"""schedules.yaml in, definitions or problems out."""

from runner.config.load import CheckHandlers, Loaded, load, load_text

__all__ = ["CheckHandlers", "Loaded", "load", "load_text"]
