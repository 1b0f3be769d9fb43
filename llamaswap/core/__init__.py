"""The rules, without any I/O: what may run, who waits, what happens next."""
