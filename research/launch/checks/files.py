"""Checks of a sample of the audio files, as far as their headers tell."""

from research.config import Data, Streams
from research.data import audio
from research.data.manifest import load_noise
from research.launch.checks.job import Job, Said, ok, refuse, warn
from research.launch.checks.manifest import Looked, look, sample_of


def files(job: Job) -> Said | None:
    """Whether the audio is there, and decodable by its header."""
    if isinstance(job.cfg.data, Streams):
        return None
    sample = job.get(sample_of)
    return complaint(sample, job.cfg.data) or ok(f"all of {len(sample)} that were looked at have a header")


def complaint(sample: list[Looked], cfg: Data) -> Said | None:
    """What is wrong with the headers of a sample. A missing file stops a run that reads all headers first."""
    bad = [(each.where, each.problem) for each in sample if each.problem]
    if not bad:
        return None
    said = f"{len(bad)} of {len(sample)} files: {bad[0][0]}: {bad[0][1]}"
    missing = cfg.headers and any(problem.kind == "missing" for _, problem in bad)
    return refuse(said) if missing or too_many(len(bad), len(sample), cfg) else warn(said)


def durations(job: Job) -> Said | None:
    """Whether the files are as long as the manifest says."""
    cfg = job.cfg.data
    if isinstance(cfg, Streams):
        return None
    sample = job.get(sample_of)
    short = [each for each in sample if each.short]
    long = [each for each in sample if each.surplus > audio.SLACK and not each.part]
    if short:
        first = min(short, key=lambda each: each.surplus)
        said = (
            f"{len(short)} of {len(sample)} files end before the manifest says, up to {-first.surplus:.2f} s "
            f"({first.where}); measure them anew with `hark prepare dir`"
        )
        return refuse(said) if cfg.headers or too_many(len(short), len(sample), cfg) else warn(said)
    if long:
        first = max(long, key=lambda each: each.surplus)
        return warn(
            f"{len(long)} of {len(sample)} files go on after what the manifest says, up to {first.surplus:.2f} s "
            f"({first.where}), which nobody will hear"
        )
    return ok(f"as in the files, within {audio.SLACK:g} s")


def conversion(job: Job) -> Said | None:
    """Whether files have the rate and the channels that data.strict asks for."""
    cfg = job.cfg.data
    if isinstance(cfg, Streams):
        return None
    known = [(each.one.path, each.header) for each in job.get(sample_of) if each.header]
    other = [each for each in known if (each[1].rate, each[1].channels) != (cfg.sample_rate, 1)]
    if not other:
        return ok(f"none: mono at {cfg.sample_rate} Hz")
    path, header = other[0]
    said = (
        f"{len(other)} of {len(known)} files need it ({path}: {header.channels} channels, {header.rate} Hz)"
    )
    return refuse(f"{said}, which data.strict=true forbids; set it to false") if cfg.strict else ok(said)


def noise(job: Job) -> Said | None:
    """Whether noise and rooms are there."""
    cfg, said = job.cfg.data, list[str]()
    for key, paths in corpora(cfg).items():
        corpus = load_noise(paths, cfg, headers=False)
        if wrong := complaint(look(corpus, job.sample, job.cfg.run.seed), cfg):
            return wrong._replace(text=f"{key}: {wrong.text}")
        said.append(f"{key}: {len(corpus):,} clips, {corpus.durations.sum() / 3600:,.2f} hours")
    return ok("; ".join(said)) if said else None


def corpora(cfg: Data) -> dict[str, list[str]]:
    """Manifests of what is laid over speech, by the key that names them."""
    found = {"data.noise": cfg.noise}
    if isinstance(cfg, Streams):
        found["data.mix.paths"] = cfg.mix.paths if cfg.mix.prob else []
        found["data.reverb.paths"] = cfg.reverb.paths if cfg.reverb.prob else []
    return {key: paths for key, paths in found.items() if paths}


def too_many(bad: int, of: int, cfg: Data) -> bool:
    """Whether a sample says that a run would stop at data.max_bad. A single bad file may be chance."""
    return bad == of or (bad > 1 and bad > cfg.max_bad * of)
