"""What an operator sees: logs, activity, swaps, and figures of the machine."""
