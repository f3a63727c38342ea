"""What the plugin shows, as values: an InitPipeline and the time in, text out. No I/O, no clock."""
