"""The demo: a pipeline on a real cluster, broken in three ways, with every claim checked."""
