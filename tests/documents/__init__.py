"""The shell commands of the documents, and the test that runs each of them."""
