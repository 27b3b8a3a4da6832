"""The processors an artifact can be built for."""

import difflib
import functools
import platform
from dataclasses import dataclass

from bicompile.errors import UserError


@dataclass(frozen=True)
class Target:
    """A processor: what LLVM, the linker and the emulators call it.

    Attributes:
        name: what the user writes.
        arch: "aarch64" or "x86_64".
        cpu: LLVM's processor name.
        features: LLVM features added to those of `cpu`.
        emulated_cpu: the processor that emulators are told to be; None where none emulates it.
        about: one line for `bicompile targets`.
    """

    name: str
    arch: str
    cpu: str
    features: tuple[str, ...]
    emulated_cpu: str | None
    about: str

    @property
    def triple(self) -> str:
        """LLVM's triple."""
        return f"{self.arch}-unknown-linux-gnu"


_KNOWN = (
    Target(
        "cortex-a53",
        "aarch64",
        "cortex-a53",
        ("+neon",),
        "cortex-a53",
        "Raspberry Pi 3, Zero 2 W; in order",
    ),
    Target(
        "cortex-a72",
        "aarch64",
        "cortex-a72",
        ("+neon",),
        "cortex-a72",
        "Raspberry Pi 4; out of order",
    ),
    Target(
        "cortex-a76",
        "aarch64",
        "cortex-a76",
        ("+neon",),
        "cortex-a76",
        "Raspberry Pi 5; out of order",
    ),
    Target(
        "neoverse-n1",
        "aarch64",
        "neoverse-n1",
        ("+neon",),
        "neoverse-n1",
        "servers (Graviton2, Altra)",
    ),
    Target("armv8-a", "aarch64", "generic", ("+neon",), "cortex-a53", "any 64-bit Arm processor"),
    Target("x86-64-v3", "x86_64", "x86-64-v3", (), None, "PCs since 2013: AVX2, no AVX-512"),
)


def machine_arch() -> str:
    """This machine's architecture, in LLVM's words."""
    return platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")


@functools.cache
def _host() -> Target:
    import tvm  # only LLVM knows the processor's name and features; importing it takes seconds

    cpu = str(tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")())
    found = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()
    features = tuple(sorted(("+" if int(on) else "-") + str(name) for name, on in found.items()))
    return Target("host", machine_arch(), cpu, features, None, f"this machine ({cpu})")


def all_targets() -> tuple[Target, ...]:
    """Every known target, the host last."""
    return (*_KNOWN, _host())


def find_target(name: str) -> Target:
    """The target called `name`; raises UserError naming the known ones and the nearest."""
    known = {target.name: target for target in _KNOWN}
    if name == "host":
        return _host()
    if name in known:
        return known[name]
    names = [*known, "host"]
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.3)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"unknown target {name!r}: known targets are {', '.join(names)}{hint}")
