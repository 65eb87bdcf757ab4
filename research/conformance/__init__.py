"""The rules that every plugin keeps, checked by registration alone: `hark check NAME` and the shared tests.

A rule is a function of a `Case` that raises `Broken` with what is wrong, why it matters and what to do; the first line
of its docstring is what it demands. `suite.py` says which rules hold for which kind. Objectives are run as they are;
encoders, frontends and quantizers by themselves and inside an objective.
"""
