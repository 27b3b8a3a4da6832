"""festival, with diphone and HMM voices of real speakers from Debian's festvox packages."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bicompile.errors import UserError
from bicompile.training.engines.engine import Sound, Take, read_sound, run_program, version_in

PACKAGES = {
    "kal_diphone": "festvox-kallpc16k",
    "ked_diphone": "festvox-kdlpc16k",
    "cmu_us_slt_arctic_hts": "festvox-us-slt-hts",
}
"""Voices that the corpus uses, and the Debian package that has each."""


class Festival:
    """festival, run once for all takes: starting it costs more than speaking."""

    name = "festival"

    def version(self) -> str:
        """Say the engine's version; raises UserError when it or a voice of it is not installed."""
        version = version_in(run_program(["festival", "--version"], self.name))
        # Without `-b` it would wait for commands; the list goes to the standard output.
        installed = run_program(["festival", "-b", "(print (voice.list))"], self.name)
        for voice, package in PACKAGES.items():
            if voice not in installed:
                raise UserError(
                    f"the speech engine festival lacks the voice {voice}; "
                    f"install it with: apt install {package}"
                )
        return version

    def speak(self, voice: str, takes: Sequence[Take], scratch: Path) -> Iterator[Sound]:
        """Give the sound of each take in turn; an HMM voice leaves its pitch as it is."""
        script = scratch / "takes.scm"
        lines = [f"(voice_{voice})"]
        for number, take in enumerate(takes):
            if voice.endswith("_hts"):
                speed = f'\'("-r" {take.speed:.3f})'
                lines.append(f"(set! hts_engine_params (cons {speed} hts_engine_params))")
            else:
                hertz = 85 + 65 * take.pitch
                lines.append(f"(Parameter.set 'Duration_Stretch {1 / take.speed:.3f})")
                lines.append(
                    f"(set! int_lr_params (cons '(target_f0_mean {hertz:.0f}) int_lr_params))"
                )
            speech = f'(utt.synth (Utterance Text "{take.word}{take.mark}"))'
            lines.append(f'(utt.save.wave {speech} "{number}.wav" \'riff)')
        script.write_text("\n".join(lines))
        run_program(["festival", "-b", script.name], PACKAGES[voice], scratch)
        for number in range(len(takes)):
            yield read_sound(scratch / f"{number}.wav")
