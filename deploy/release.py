"""``python3 -m deploy.release``: the archives of a version, and its image where Docker answers.

``dist/`` gets the committed tree as ``.tar.gz`` and a file of checksums. It uses the standard
library alone.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from deploy.stack import ROOT
from grid.errors import GridError
from grid.version import version

NAME: Final = "smart-grid-dispatcher"
DIST: Final = ROOT / "dist"
CHECKSUMS: Final = "SHA256SUMS"
LABEL: Final = "org.opencontainers.image"


def archive(commit: str, folder: Path, repository: Path = ROOT) -> Path:
    """Write the tree of a commit into a folder; the same commit gives the same bytes."""
    name = f"{NAME}-{version()}"
    tar = _output("git", "archive", "--format=tar", f"--prefix={name}/", commit, root=repository)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tar.gz"
    path.write_bytes(gzip.compress(tar, mtime=0))
    return path


def write_checksums(files: Iterable[Path]) -> Path:
    """Write the checksums of files of one folder beside them, as ``sha256sum -c`` reads them."""
    files = list(files)
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    path = files[0].parent / CHECKSUMS
    path.write_text("".join(lines), encoding="utf-8")
    return path


def build_image(commit: str) -> str:
    """Build the image, labelled with version and commit, and return its name."""
    image = f"{NAME}:{version()}"
    labels = {
        "title": "Smart grid dispatcher",
        "version": version(),
        "revision": commit,
        "licenses": "Apache-2.0",
    }
    marks = [
        word for name, value in labels.items() for word in ("--label", f"{LABEL}.{name}={value}")
    ]
    subprocess.run(  # noqa: S603
        ["docker", "build", "--file", "deploy/Dockerfile", "--tag", image, *marks, "."],  # noqa: S607
        cwd=ROOT,
        check=True,
    )
    return image


def docker_answers() -> bool:
    """Return whether there is a Docker engine."""
    try:
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0  # noqa: S607
    except OSError:
        return False


def check_changelog(text: str) -> None:
    """Raise ``GridError`` if the changelog does not describe this version."""
    if f"\n## [{version()}]" not in text:
        raise GridError(f"CHANGELOG.md has no section [{version()}], the version of pyproject.toml")


def main() -> int:
    """Make a release of what is committed.

    Raises:
        GridError: something is not committed, or the changelog does not describe this version.
    """
    if changed := _output("git", "status", "--porcelain").decode().strip():
        raise GridError(f"commit these first, a release is made of what is committed:\n{changed}")
    check_changelog((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    commit = _output("git", "rev-parse", "HEAD").decode().strip()
    source = archive(commit, DIST)
    print(f"{source.relative_to(ROOT)}\n{write_checksums([source]).relative_to(ROOT)}")  # noqa: T201
    if docker_answers():
        print(f"image {build_image(commit)}")  # noqa: T201
    else:
        print("no image: no Docker engine answers (docker info)")  # noqa: T201
    return 0


def _output(*command: str, root: Path = ROOT) -> bytes:
    return subprocess.run(command, cwd=root, capture_output=True, check=True).stdout  # noqa: S603


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (GridError, subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"release: {error}")
