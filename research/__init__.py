"""hark: speech self-supervised learning as composable plugins.

Layers; each may import what stands below it, and nothing else (`lint-imports` holds this):

    7  cli
    6  analysis     conformance  classification
    5  training     evaluation
    4  interop
    3  model        data           engine          runs
    2  config       registry       nn              schedules
    1  contracts    errors       files           downstream      torch only

`plugins/` is a leaf: its files import layers 1 and 2 (not config), nothing imports them; they are loaded by name.
"""

__version__ = "0.1.0"
