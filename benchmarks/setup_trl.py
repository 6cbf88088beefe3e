"""Makes the opponent's environment in .venv-trl: attune's pinned torch and transformers, and the newest release of TRL. Standard library only.

`make bench` runs it before it measures; a second run installs nothing but a newer TRL, if there is one. TRL is never a dependency of attune.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv

from tools import setup_environment as setup

VENV = setup.ROOT / ".venv-trl"
PYTHON = VENV / setup.PYTHON.relative_to(setup.VENV)
STAMP = VENV / ".bench-setup"
PEERS = ("trl", "transformers", "peft", "datasets", "accelerate")
"""What is asked for; constraints.txt pins all but trl and datasets, so that both sides run the same model code."""


def main() -> int:
    setup.VENV, setup.PYTHON = VENV, PYTHON  # the same steps as `make setup`, into another folder
    wanted = setup.fingerprint()
    fresh = not STAMP.is_file() or STAMP.read_text() != wanted or not PYTHON.is_file()
    if not PYTHON.is_file():
        print("creating .venv-trl", flush=True)
        venv.create(VENV, with_pip=True)
    if fresh:
        setup.install_torch()
    newest = ("install", "--quiet", "--upgrade", "--upgrade-strategy", "only-if-needed", "--constraint", "constraints.txt", *PEERS)
    if setup.pip(*newest, check=fresh):
        print("the newest release cannot be looked up; the one that is here is measured", flush=True)
    STAMP.write_text(wanted)
    print("opponent: " + ", ".join(f"{name} {version}" for name, version in versions().items()), flush=True)
    return 0


def versions() -> dict[str, str]:
    """Returns package -> version of what the opponent runs."""
    code = f"import json; from importlib.metadata import version; print(json.dumps({{name: version(name) for name in {('torch', *PEERS)!r}}}))"
    found: dict[str, str] = json.loads(subprocess.run([str(PYTHON), "-c", code], check=True, capture_output=True, text=True).stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
