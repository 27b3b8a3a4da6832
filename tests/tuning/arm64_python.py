"""Debian's Python for arm64 with TVM's wheels for it, to run under qemu; nothing is installed."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

_WHEELS = ("apache-tvm", "apache-tvm-ffi", "numpy", "psutil", "tornado", "typing-extensions")
_GLIBC = range(17, 37)  # of Debian 12: 2.36


class Arm64Python:
    """A root and a folder of packages, made in `folder`."""

    def __init__(self, folder: Path) -> None:
        """Fetch both; the test is skipped where a client is not there or finds nothing."""
        for program in ("apt-get", "dpkg", "qemu-aarch64"):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed")
        self._root, self._packages = folder / "root", folder / "packages"
        _fetch_debian(folder / "apt", self._root)
        _fetch_wheels(folder / "wheels", self._packages)

    def start(self, code: str) -> subprocess.Popen[str]:
        """Start a process with this code."""
        python = self._root / "usr" / "bin" / "python3.11"
        environment = {**os.environ, "PYTHONPATH": str(self._packages)}
        return subprocess.Popen(
            ["qemu-aarch64", "-L", self._root, python, "-c", code],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )


def _fetch_debian(state: Path, root: Path) -> None:
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()
    (state / "apt.conf").write_text(
        'APT::Architecture "arm64"; APT::Architectures "arm64"; APT::Sandbox::User "root";\n'
        f'Dir::State "{state}"; Dir::State::lists "{state}/lists"; Dir::Cache "{state}/cache";\n'
        f'Dir::State::status "{state}/status";\n'
    )
    options = ["--yes", "--download-only", "--no-install-recommends"]
    for command in (["update"], ["install", *options, "python3.11", "libstdc++6"]):
        _run(["apt-get", *command], {**os.environ, "APT_CONFIG": str(state / "apt.conf")})
    for archive in (state / "cache" / "archives").glob("*.deb"):
        _run(["dpkg", "-x", archive, root])


def _fetch_wheels(wheels: Path, packages: Path) -> None:
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in _GLIBC]
    platforms.append("--platform=manylinux2014_aarch64")
    pinned = [f"{name}=={version(name)}" for name in _WHEELS]
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.11"]
    pip = [sys.executable, "-m", "pip", "download"]
    _run([*pip, *options, *platforms, f"--dest={wheels}", *pinned])
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)


def _run(command: list[object], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        pytest.skip(f"{command[0]} did not get arm64 packages: {done.stderr.strip()[-300:]}")
