"""The kernels, each in the plain form of its formula; see `launch.py` for their vocabulary."""
