"""Tests: ``unit`` is deterministic, ``integration`` has real processes and sockets, ``real`` real models."""
