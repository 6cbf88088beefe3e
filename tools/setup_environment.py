"""Makes the environment in .venv: torch first, without CUDA where there is no NVIDIA GPU, then everything else, pinned.

Run by `make setup` with any Python 3.11 or newer; uses nothing but the standard library. A second run installs nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / ".attune-setup"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
EXTRAS = "dev,docs"


def main() -> int:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return with_another_python()
    wanted = fingerprint()
    if STAMP.is_file() and STAMP.read_text() == wanted and PYTHON.is_file():
        return 0
    if not PYTHON.is_file():
        print("creating .venv", flush=True)
        venv.create(VENV, with_pip=True)
    install_torch()
    print("installing attune and what it needs (pinned in constraints.txt)", flush=True)
    pip("install", "--quiet", "--constraint", "constraints.txt", "--editable", f".[{EXTRAS}]")
    STAMP.write_text(wanted)
    print("environment ready: .venv", flush=True)
    return 0


def with_another_python() -> int:
    """Runs this file again with a Python that fits, if one is on the path."""
    for name in ("python3.13", "python3.12", "python3.11"):
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", "pass"], capture_output=True).returncode == 0:
            return subprocess.run([found, __file__]).returncode
    print(f"attune needs Python 3.11 to 3.13; this is {sys.version.split()[0]} ({sys.executable})", file=sys.stderr)
    return 2


def fingerprint() -> str:
    """Returns a hash of what decides the environment."""
    parts = [(ROOT / name).read_bytes() for name in ("constraints.txt", "pyproject.toml")]
    return hashlib.sha256(b"\0".join([*parts, sys.version.encode()])).hexdigest()


def install_torch() -> None:
    """Installs the pinned torch: a CPU build where one can be had and no NVIDIA GPU is here, else the default one."""
    pin = next(line.split()[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    if (
        subprocess.run(
            [str(PYTHON), "-c", f"import torch; assert torch.__version__.split('+')[0] == '{pin.partition('==')[2]}'"], capture_output=True
        ).returncode
        == 0
    ):
        return
    print(f"installing {pin}", flush=True)
    if sys.platform.startswith("linux") and not has_nvidia():
        tried = pip("install", "--quiet", "--no-deps", "--index-url", CPU_WHEELS, "--timeout", "10", "--retries", "0", pin, check=False)
        if tried == 0:
            return
        print("PyTorch's CPU wheels cannot be reached; taking the default index", flush=True)
    pip("install", "--quiet", pin)


def has_nvidia() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def pip(*arguments: str, check: bool = True) -> int:
    done = subprocess.run([str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments], cwd=ROOT, stderr=None if check else subprocess.DEVNULL)
    if check and done.returncode:
        sys.exit(done.returncode)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
