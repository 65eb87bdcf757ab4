"""Check of what is heard: a few utterances, read as the run will read them."""

from collections import Counter

from research.data.loader import BAD
from research.launch.checks.files import too_many
from research.launch.checks.job import Job, Said, ok, refuse, warn
from research.launch.checks.plan import speech_of

DECODED = 32  # utterances
SILENCE_REFUSE = 0.5  # share that is digital silence


def sound(job: Job) -> Said:
    """Read utterances of the sample whole."""
    counts, bad = Counter[str](), list[str]()
    for loaded in job.get(speech_of).hear(job, DECODED):
        counts += loaded.counts
        bad += loaded.bad
    broken, heard = sum(counts[kind] for kind in BAD), counts["utterances"]
    if broken:
        said = f"{broken} of {broken + heard} that were decoded: {bad[0]}"
        return refuse(said) if too_many(broken, broken + heard, job.cfg.data) else warn(said)
    if silent := counts["silent"]:
        said = f"{silent} of {heard} that were decoded are digital silence"
        return refuse(said) if silent > SILENCE_REFUSE * heard else warn(said)
    converted = f", {counts['converted']} of them converted to mono at {job.cfg.data.sample_rate} Hz"
    return ok(f"{heard} were decoded whole{converted if counts['converted'] else ''}")
