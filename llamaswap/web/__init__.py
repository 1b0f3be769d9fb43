"""The client side: the HTTP edge, Klein routes, error rendering."""
