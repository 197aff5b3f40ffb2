"""What a person sees: log lines, progress, tables."""
