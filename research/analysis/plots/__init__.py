"""Figures of runs, in one style (research/analysis/style.py): frames and tables in, matplotlib Figures out."""

from research.analysis.plots.bands import curves
from research.analysis.plots.crossed import interaction
from research.analysis.plots.depth import layers
from research.analysis.plots.forest import effects
from research.analysis.plots.frontier import pareto
from research.analysis.plots.reach import speed
from research.analysis.style import save

__all__ = ["curves", "effects", "interaction", "layers", "pareto", "save", "speed"]
