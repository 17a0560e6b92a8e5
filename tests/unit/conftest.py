"""What the unit tests share: no example has to be quick, since no test may hang on a machine's speed."""

from hypothesis import settings

settings.register_profile("vxlan-operator", deadline=None)
settings.load_profile("vxlan-operator")
