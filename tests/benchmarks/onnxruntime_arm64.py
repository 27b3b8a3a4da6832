"""onnxruntime's own arm64 build on the float network: instructions executed under qemu-user.

What a user would run instead of a compiled network: the arm64 wheel of the onnxruntime that is
installed here, in Debian's arm64 Python, both unpacked below a folder and emulated. A plugin of
qemu-user counts (count_instructions.c); a run is what lies between two marks, less what two marks
and a call cost by themselves, and the median of the later runs is printed. Our objects are called
in the same process and counted by the same plugin, beside what our emulator counts: some three
thousand instructions of ctypes come with them. The outputs of onnxruntime on
arm64 are compared with those of onnxruntime here. The int8 networks are those of onnxruntime's own
quantization, with the PReLU of the network and with ReLU, which its int8 kernels have.

There are no cycles: the models read traces of our emulator, which loads our objects alone.

    python tests/benchmarks/onnxruntime_arm64.py [--folder build/arm64] [--cpu cortex-a53]

Needs qemu-user, apt-get and pip with their networks, and some 250 MB; installs nothing.
"""

import json
import statistics
import subprocess
import sys
from argparse import ArgumentParser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from host_speed import BLOCKS, NETWORK, float_network
from onnx import TensorProto, helper
from quantized_network import quantized, with_relu

from bicompile import toolchain
from bicompile.check import session
from bicompile.cost.report import observe, sample_of
from bicompile.pipeline import compile_model
from bicompile.targets import find_target

HERE = Path(__file__).parent
ARCHITECTURE = "arm64"
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
WIDTHS = (0, 1, 2)

CPUINFO = """\
processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd03
CPU revision\t: 4

"""
"""A Cortex-A53. qemu shows the machine's own otherwise, and onnxruntime stops at an x86's."""


def run(*command: object, **options: Any) -> str:
    """Run a command; what it printed. Stops where it fails."""
    words = list(map(str, command))
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"{words[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def install(folder: Path) -> tuple[Path, Path]:
    """Unpack Debian's arm64 Python and the wheels below a folder: (root, packages)."""
    root, packages = folder / "root", folder / "packages"
    if packages.exists():
        return root, packages
    apt = folder / "apt"
    for place in ("lists/partial", "cache/archives/partial"):
        (apt / place).mkdir(parents=True, exist_ok=True)
    (apt / "status").write_text("")
    options = {
        "Dir::State::Lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "APT::Architecture": ARCHITECTURE,
        "APT::Architectures": ARCHITECTURE,
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": 1,
    }
    get = [
        "apt-get",
        *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
    ]
    run(*get, "update")
    what = ["--yes", "--no-install-recommends", "--download-only", "python3", "libstdc++6"]
    run(*get, "install", *what)
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        run("dpkg", "-x", package, root)
    (python,) = root.glob("usr/lib/python3.*")
    wanted = [f"{name}=={version(name)}" for name in ("onnxruntime", "numpy", "protobuf")]
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages),
        *("--only-binary=:all:", "--python-version", python.name.removeprefix("python")),
        *(word for platform in PLATFORMS for word in ("--platform", platform)),
        *(*wanted, "flatbuffers", "packaging"),
    )
    for name in ("kernel_max", "possible", "present"):  # qemu looks below the root first
        path = root / "sys/devices/system/cpu" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0\n")
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(CPUINFO)
    return root, packages


def networks(folder: Path) -> tuple[list[dict[str, Any]], list[int | None]]:
    """What count_runs.py is given, and what our emulator counts for those that are ours."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 12]) for n in "xy"]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "graph", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 20)]
    models = {
        "onnxruntime, no layer": helper.make_model(graph, opset_imports=opsets, ir_version=10)
    }
    for width in WIDTHS:
        models[f"onnxruntime, float, {BLOCKS[width]} blocks"] = float_network(BLOCKS[width])
    whole = models["onnxruntime, float, 8 blocks"]
    models["onnxruntime, int8, 8 blocks"] = quantized(whole)
    models["onnxruntime, int8, ReLU, 8 blocks"] = quantized(with_relu(whole))
    given, counted = [], []
    for name, model in models.items():
        path = folder / f"{len(given)}.onnx"
        onnx.save(model, path)
        shapes = [
            [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (model.graph.input[0], model.graph.output[0])
        ]
        given.append({"name": name, "path": str(path), "input": shapes[0], "output": shapes[1]})
        counted.append(None)
    target = find_target("cortex-a53")
    sources: list[tuple[str, str, tuple[int, ...] | None]]
    sources = [("float, 8 blocks", str(folder / "1.onnx"), None)]
    sources += [(f"binary, width {width}", NETWORK, (width,)) for width in WIDTHS]
    for name, source, widths in sources:
        out = folder / f"ours{len(given)}"
        ours = compile_model(source, target, out, widths=widths, check=False).artifact.executable
        library = out / "model.so"
        toolchain.link_shared(ours.object, library, target)
        shapes = {"input": ours.input.shape, "output": ours.output.shape}
        given.append({"name": f"bicompile, {name}", "path": str(library), **shapes})
        given[-1]["workspace"] = ours.workspace_bytes
        counted.append(observe(ours, sample_of(ours), ()).total("").instructions)
    return given, counted


def check_output(given: dict[str, Any], found: list[float]) -> None:
    """Stop where onnxruntime on arm64 gives something else than here."""
    x = np.random.default_rng(0).standard_normal(given["input"]).astype(np.float32)
    here = session(onnx.load(given["path"]))
    (expected,) = here.run(None, {here.get_inputs()[0].name: x})
    np.testing.assert_allclose(found, expected.ravel(), atol=1e-4 * np.abs(expected).max())


def main() -> None:
    """Print the table."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("build/arm64"))
    parser.add_argument("--cpu", default="cortex-a53", help="of qemu; neoverse-n1 has dotprod")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    root, packages = install(folder)
    plugin = folder / "count.so"
    compiler = [sys.executable, "-m", "ziglang", "cc", "-O2", "-shared", "-fPIC"]
    run(*compiler, "-o", plugin, HERE / "count_instructions.c")
    given, counted = networks(folder)
    (python,) = root.glob("usr/bin/python3.[0-9]*")
    told = run(
        *("qemu-aarch64", "-cpu", options.cpu, "-plugin", plugin, "-L", root),
        *("-E", f"PYTHONPATH={packages}", "-E", "PYTHONHASHSEED=0", python),
        *(HERE / "count_runs.py", json.dumps(given)),
    ).splitlines()
    marks = [int(line.split()[1]) for line in told if line.startswith("executed ")]
    outputs = [json.loads(line) for line in told if line.startswith("[")]
    runs = [after - before for before, after in zip(marks[::2], marks[1::2], strict=True)]
    each = len(runs) // (len(given) + 1)
    late = [runs[at + each // 2 : at + each] for at in range(0, len(runs), each)]
    nothing, *counts = (statistics.median_low(those) for those in late)
    print(f"onnxruntime {version('onnxruntime')}, instructions of one run, qemu's {options.cpu}")
    for network, count, ours, output in zip(given, counts, counted, outputs[1:], strict=True):
        if ours is None:
            check_output(network, output)
        beside = "" if ours is None else f"  {ours} by our emulator"
        print(f"{network['name']:36}{count - nothing:>10}{beside}")


if __name__ == "__main__":
    main()
