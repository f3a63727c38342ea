"""What Argo CD and Flux make of InitPipelines, asked of their own code."""
