"""Rules that hold without a database, a clock or a file."""
