"""For every test: no deadline on an example, for a machine that is busy is not a bug."""

from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")
