"""Settings of Hypothesis for all unit tests.

There are no time limits: a busy machine exceeds them, and the tests fail without a fault.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
