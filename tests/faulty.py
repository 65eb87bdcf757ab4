"""Parts that do not work, each in a way of its own, and runs that end when told to."""

import os
import signal
from dataclasses import dataclass

import torch

from plugins.masking.none import NoMasking
from plugins.objectives.data2vec import Data2Vec
from plugins.objectives.nest import NEST
from plugins.quantizers.ema import EMA
from plugins.quantizers.gumbel import Gumbel
from research.registry import register


@register("hides_nothing")
class HidesNothing(NoMasking):
    """Masks nothing, and does not say so."""

    hides = True

    @dataclass(kw_only=True)
    class Config(NoMasking.Config):
        pass


@register("frozen_ema")
class FrozenEMA(EMA):
    @dataclass(kw_only=True)
    class Config(EMA.Config):
        pass

    def on_step_end(self, step):
        pass


@register("frozen_gumbel")
class FrozenGumbel(Gumbel):
    @dataclass(kw_only=True)
    class Config(Gumbel.Config):
        pass

    def __init__(self, cfg, *, dim_in):
        super().__init__(cfg, dim_in=dim_in)
        self.codebook.requires_grad_(False)


@register("constant_teacher")
class ConstantTeacher(Data2Vec):
    """The teacher forgets what it learnt at every step: it says the same of every frame."""

    @dataclass(kw_only=True)
    class Config(Data2Vec.Config):
        pass

    @torch.no_grad()
    def on_step_end(self, step):
        super().on_step_end(step)
        for weight in self.teacher.model.parameters():
            weight.zero_()


@register("nest_ending")
class EndingNEST(NEST):
    """$HARK_TEST_END=n:signal ends the process softly, or with an error for 0, when step number n of it is done."""

    done = 0

    @dataclass(kw_only=True)
    class Config(NEST.Config):
        pass

    def on_step_end(self, step):
        self.done += 1
        number, how = map(int, os.environ.get("HARK_TEST_END", "0:0").split(":"))
        if self.done == number:
            if how == 0:
                raise RuntimeError("the node is gone")
            os.kill(os.getpid(), how)


STOPPED = 128 + signal.SIGTERM
