"""Small CPU-only toy model servers; they import nothing else of this project."""
