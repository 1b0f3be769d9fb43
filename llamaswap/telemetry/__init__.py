"""What an operator sees: logs now, metrics and activity later."""
