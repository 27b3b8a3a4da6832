"""flite, with diphone and statistical voices of real speakers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bicompile.errors import UserError
from bicompile.training.engines.engine import Sound, Take, read_sound, run_program, version_in

VOICES = ("kal16", "rms", "awb", "slt")
"""Voices that the corpus uses."""


class Flite:
    """flite; its voices are part of the program."""

    name = "flite"

    def version(self) -> str:
        """Say the engine's version; raises UserError when it or a voice of it is not installed."""
        version = version_in(run_program(["flite", "--version"], self.name))
        installed = run_program(["flite", "-lv"], self.name).split()
        for voice in VOICES:
            if voice not in installed:  # flite would speak with another voice and say nothing of it
                raise UserError(
                    f"the speech engine flite lacks the voice {voice}, which Debian's has; "
                    "install it with: apt install flite"
                )
        return version

    def speak(self, voice: str, takes: Sequence[Take], scratch: Path) -> Iterator[Sound]:
        """Give the sound of each take in turn."""
        path = scratch / "flite.wav"
        low, high = (130, 225) if voice == "slt" else (85, 150)
        for take in takes:
            hertz = low + (high - low) * take.pitch
            options = ["-voice", voice, "--setf", f"duration_stretch={1 / take.speed:.3f}"]
            options += ["--setf", f"int_f0_target_mean={hertz:.0f}", "-o", str(path)]
            run_program(["flite", *options, "-t", take.word + take.mark], self.name)
            yield read_sound(path)
