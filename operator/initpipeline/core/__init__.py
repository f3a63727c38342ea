"""Pure decisions: facts in, a value out. No framework, no client, no clock, nothing remembered."""
