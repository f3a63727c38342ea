"""The controller: watches, cache, work queue and requests. It calls ``core`` for every decision."""
