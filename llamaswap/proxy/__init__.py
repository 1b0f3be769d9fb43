"""The upstream side of a proxied request: connections, relay, headers."""
