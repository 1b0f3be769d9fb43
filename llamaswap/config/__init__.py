"""From YAML files and the environment to one frozen :class:`~llamaswap.config.schema.Config`."""
