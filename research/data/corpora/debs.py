"""Debian packages without Debian: fetched by `apt-get download` with private state, unpacked in Python."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from research.data.corpora.pins import PINS, Pin
from research.errors import HarkError

AR_MAGIC = b"!<arch>\n"
AR_HEADER = 60  # bytes


def cache() -> Path:
    """Give the folder that keeps downloads between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hark"


def fetch(names: Iterable[str], deb_dir: Path | None) -> dict[str, Path]:
    """Give the .deb of every package, its SHA-256 verified; from `deb_dir` when given, else cached or downloaded.

    HarkError when a file is missing or differs from its pin, or when apt cannot get it.
    """
    if deb_dir is not None:
        return {name: _given(name, deb_dir) for name in names}
    folder = cache() / "debs"
    paths = {name: folder / f"{name}.deb" for name in names}
    if _missing(paths):
        folder.mkdir(parents=True, exist_ok=True)
        _download(paths, folder)
    return paths


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _given(name: str, deb_dir: Path) -> Path:
    pin = PINS[name]
    found = sorted([*deb_dir.glob(f"{name}_*.deb"), *deb_dir.glob(f"{name}.deb")])
    if not found:
        raise HarkError(
            f"{deb_dir}: no {name}_{pin.version}_all.deb is here; get it by `apt-get download {name}`"
        )
    for path in found:
        if digest(path) == pin.sha256:
            return path
    raise HarkError(
        f"{found[0]}: SHA-256 is {digest(found[0])}, expected {pin.sha256} (version {pin.version}); "
        f"the file is damaged or of another version, get it again from https://snapshot.debian.org/package/{name}/"
    )


def _missing(paths: Mapping[str, Path]) -> list[str]:
    return [name for name, path in paths.items() if not (path.exists() and digest(path) == PINS[name].sha256)]


def _download(paths: Mapping[str, Path], folder: Path) -> None:
    apt = Apt(cache() / "apt")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress, (folder / "lock").open("w") as lock:
        task = progress.add_task("wait for another download", total=None)
        with suppress(OSError):  # a file system without locks
            fcntl.lockf(lock, fcntl.LOCK_EX)  # a second apt would refuse to work on the same lists
        names = _missing(paths)  # whoever held the lock may have downloaded some
        progress.update(task, description="package lists", total=sum(PINS[name].size for name in names))
        if names:
            apt.update()
        for name in names:
            progress.update(task, description=name)
            apt.download(name, PINS[name], folder)
            progress.advance(task, PINS[name].size)


class Apt:
    """apt with lists of its own, so that it needs neither root nor a system that was updated lately."""

    def __init__(self, state: Path) -> None:
        if shutil.which("apt-get") is None:
            raise HarkError(
                "apt-get is not on this machine: download the packages elsewhere and give --deb-dir, "
                "or use `hark prepare synth`"
            )
        (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (state / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        places = {"State": state, "State::Lists": state / "lists", "State::status": state / "status"}
        places["Cache"] = state / "cache"
        self.options = [word for key, path in places.items() for word in ("-o", f"Dir::{key}={path}")]
        self.trouble = ""  # what the update of the lists complained about

    def run(self, tool: str, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [tool, *self.options, "-qq", *words]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603  fixed words

    def update(self) -> None:
        self.trouble = _complaint(self.run("apt-get", "update").stderr)

    def offers(self, name: str) -> dict[str, str]:
        """Version -> SHA-256 of what the repositories serve."""
        found: dict[str, str] = {}
        version = ""
        for line in self.run("apt-cache", "show", name).stdout.splitlines():
            key, _, value = line.partition(": ")
            version = value if key == "Version" else version
            if key == "SHA256":
                found[version] = value
        return found

    def download(self, name: str, pin: Pin, folder: Path) -> None:
        """Put the pinned version of a package at `folder/name.deb`, whole or not at all."""
        offers = self.offers(name)
        if offers.get(pin.version) != pin.sha256:
            served = (
                ", ".join(f"{v} (SHA-256 {sha})" for v, sha in offers.items())
                or self.trouble
                or "no such package"
            )
            raise HarkError(
                f"{name}: expected version {pin.version} (SHA-256 {pin.sha256}), the repository has: {served}; "
                f"get the .deb from https://snapshot.debian.org/package/{name}/ and give --deb-dir"
            )
        part = folder / f"{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        done = self.run("apt-get", "download", f"{name}={pin.version}", cwd=part)
        found = list(part.glob("*.deb"))
        if done.returncode or not found or digest(found[0]) != pin.sha256:
            raise HarkError(
                f"{name}: apt-get download failed: {_complaint(done.stderr) or 'the file is not whole'}"
            )
        found[0].replace(folder / f"{name}.deb")
        shutil.rmtree(part)


def _complaint(stderr: str) -> str:
    lines = [
        line for line in stderr.splitlines() if line.startswith(("E:", "W:")) and "unsandboxed" not in line
    ]
    return lines[0] if lines else ""


def members(path: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Regular files of a .deb whose path (without the leading `./`) matches: (path, content)."""
    with path.open("rb") as file:
        if file.read(len(AR_MAGIC)) != AR_MAGIC:
            raise HarkError(f"{path}: not a Debian package")
        while len(header := file.read(AR_HEADER)) == AR_HEADER:
            size = int(header[48:58])
            if header.startswith(b"data.tar"):
                yield from _regular(tarfile.open(fileobj=file, mode="r|*"), wanted)  # noqa: SIM115  read to its end
                return
            file.seek(size + size % 2, os.SEEK_CUR)


def _regular(archive: tarfile.TarFile, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        name = member.name.removeprefix("./")
        content = archive.extractfile(member) if member.isreg() and wanted.search(name) else None
        if content is not None:
            yield name, content.read()
