"""What pipelines cost: lives of a pipeline, and the table of the exact numbers for each."""
