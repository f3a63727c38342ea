"""Changes the core line by line, and lists the changes that no unit test notices: make mutants."""
