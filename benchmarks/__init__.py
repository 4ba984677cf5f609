"""What the relay costs: instruction counts, suites of its parts, and a comparison with other proxies (README.md)."""
