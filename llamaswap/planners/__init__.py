"""Built-in swap planners, one module each; as pure as the core."""
