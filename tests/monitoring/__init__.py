"""Tests of the alert rules, with promtool of Debian's Prometheus."""
