"""A browser for the dashboard: Debian's Chromium, unpacked into the cache, and the rules of axe."""
