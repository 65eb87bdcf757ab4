"""The only door to fairseq2. Importing this package makes its native part, or the stub of it, ready first."""

from research.engine.bindings import prepare

prepare()
