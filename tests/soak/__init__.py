"""Hours of trouble in minutes: a daemon with real processes, and a judge."""
