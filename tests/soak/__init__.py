"""Long runs with a judge at their end; started by hand, not collected by pytest."""
