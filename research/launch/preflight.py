"""What would go wrong with a job, before it is queued. It needs no GPU, little memory, and seconds."""

from collections.abc import Iterator, Sequence

from research import registry
from research.compose import Composed, compose_config
from research.config import Config
from research.data.pieces import progress
from research.errors import HarkError
from research.launch.checks import config, cost, data, environment, files, given, mask, resources, sound
from research.launch.checks.job import Check, Finding, Job, Verdict
from research.launch.preflight_command import SAMPLE

CHECKS: tuple[Check, ...] = (
    config.config,
    config.plugins,
    config.settings,
    config.init,
    config.run,
    data.train,
    data.valid,
    data.filters,
    data.bins,
    data.lanes,
    files.files,
    files.durations,
    files.conversion,
    files.noise,
    sound.sound,
    given.given,
    mask.mask,
    resources.device,
    resources.workers,
    cost.memory,
    cost.time,
    resources.disk,
    environment.imports,
    environment.wandb,
)


def preflight(composed: Composed[Config], sample: int = SAMPLE) -> list[Finding]:
    """Check a job; every check that has something to say gives one finding, named as its function.

    A check gives none when it needs what an earlier one refuses. Audio is read of `sample` utterances, drawn with
    the run's seed, and no more.
    """
    job, found = Job(composed, sample), list[Finding]()
    environment.ask()  # another process, which is busy meanwhile
    with progress() as bar:
        task = bar.add_task("", total=len(CHECKS))
        for check in CHECKS:
            bar.update(task, description=check.__name__)
            found += asked(job, check)
            bar.advance(task)
    return found


def asked(job: Job, check: Check) -> Iterator[Finding]:
    try:
        said = job.get(check)
    except HarkError as error:
        if error not in job.told:
            job.told.append(error)
            yield Finding(check.__name__, Verdict.refuse, str(error))
        return
    except Exception as error:  # noqa: BLE001  of a plugin that the job would run too
        line = next(iter(str(error).splitlines()), "")
        yield Finding(check.__name__, Verdict.refuse, f"a plugin fails: {type(error).__name__}: {line}")
        return
    if said is not None:
        yield Finding(check.__name__, *said)


def of_overrides(overrides: Sequence[str], sample: int) -> list[Finding]:
    """Check what was typed. What cannot be composed is a finding too, with the plugins that did not import."""
    try:
        composed = compose_config(overrides)
    except HarkError as error:
        found = [Finding("config", Verdict.refuse, str(error))]
        return found + [Finding("plugins", Verdict.warn, config.broken())] * bool(registry.broken)
    return preflight(composed, sample)
