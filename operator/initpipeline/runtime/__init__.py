"""The shell around the core: everything that watches, remembers, waits, or talks to the API."""
