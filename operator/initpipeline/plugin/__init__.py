"""The kubectl plugin, ``kubectl initpipeline``. Of the operator it loads the core alone."""
