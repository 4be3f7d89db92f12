"""The binaries under test: where they are, whether they are as new as their sources, and which build exactly they are.

    python -m harness.binaries    # builds them again if a source is newer; run by conformance/run
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
DAEMONS = ("gateway-out", "relay", "gateway-in")
NAMES = (*DAEMONS, "quickstart", "fixtures")
BUILD = ["cargo", "build", "--release", "--bins", *(word for name in NAMES for word in ("-p", name))]


def target() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR") or TOP / "target")


def directory() -> Path:
    """`CONFORMANCE_BIN` names another one than cargo's release directory."""
    return Path(os.environ.get("CONFORMANCE_BIN") or target() / "release")


def binary(name: str) -> Path:
    path = directory() / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {' '.join(BUILD)}")
    return path


def sources(name: str) -> list[Path]:
    """What the compiler read for a binary, from the .d file that cargo writes beside it."""
    listed = (directory() / f"{name}.d").read_text().partition(": ")[2]
    return [Path(part.replace("\0", " ")) for part in listed.replace("\\ ", "\0").split()]


def outdated() -> str | None:
    """Why the binaries have to be built again; None if they are as new as their sources."""
    manifests = [*TOP.glob("Cargo.*"), *TOP.glob("*/Cargo.toml"), *TOP.glob("crates/*/Cargo.toml")]
    for name in NAMES:
        path = directory() / name
        if not path.exists() or not path.with_name(f"{name}.d").exists():
            return f"{name} is not built"
        built = path.stat().st_mtime
        for source in [*sources(name), *manifests]:
            if not source.exists():
                return f"{name} was built from {source}, which is gone"
            if not source.is_relative_to(TOP):
                return f"{name} was built from another tree: {source}"
            if source.stat().st_mtime > built:
                return f"{name} is older than {source.relative_to(TOP)}"
    return None


def describe() -> list[tuple[str, str]]:
    """[(name, version and the first bytes of the SHA-256)] of the three daemons."""
    found = []
    for name in DAEMONS:
        path = binary(name)
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30).stdout.strip()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found.append((name, f"{said}, sha256 {digest[:16]}…"))
    return found


def tree() -> str:
    """The commit, and whether something has been changed since."""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=TOP, capture_output=True, text=True)
    except OSError:
        return "unknown (no git)"
    return done.stdout.strip() if done.returncode == 0 else "unknown (no git repository)"


def main() -> int:
    if os.environ.get("CONFORMANCE_BIN"):
        print(f"conformance: binaries of {directory()}, not compared with the sources")
        return 0
    reason = outdated()
    if reason is None:
        return 0
    print(f"conformance: {reason}; building: {' '.join(BUILD)}", flush=True)
    code = subprocess.call(BUILD, cwd=TOP)
    if code == 0:
        # Cargo leaves a binary alone whose inputs changed in time only.
        for name in NAMES:
            os.utime(directory() / name)
    return code


if __name__ == "__main__":
    sys.exit(main())
