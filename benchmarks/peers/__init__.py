"""One small program for each queue that is measured: run by the Python of its own environment, driven by its arguments.

`PROGRAM COMMAND URL ...`, where a command is install, enqueue, bulk, trickle, serve, or one that a program adds.
"""
