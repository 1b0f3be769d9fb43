"""One supervised child process per model."""
