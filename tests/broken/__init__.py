"""Plugins that each break one rule: a name is the rule's, with `__` and what is wrong where there are several."""

from dataclasses import dataclass

from research.registry import register


def breaks(rule):
    """Register a subclass of a good plugin under the rule that has to catch it."""

    def add(cls):
        cls.Config = dataclass(kw_only=True)(type("Config", (cls.Config,), {"__module__": cls.__module__}))
        return register(rule)(cls)

    return add
