"""Builds the files of a release: ``make release``. docs/release.md describes each file."""
