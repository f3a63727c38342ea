"""What the plugin reports, as values: pure functions of the InitPipeline, its Pod and the time."""
