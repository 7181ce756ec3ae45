"""Pages, and what keeps the generated ones true."""
