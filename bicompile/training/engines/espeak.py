"""espeak-ng, a formant synthesizer with a hundred voice variants for every accent."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bicompile.training.engines.engine import Sound, Take, read_sound, run_program, version_in


class EspeakNg:
    """espeak-ng; a voice is `accent+variant`, such as `en-gb+Alex`."""

    name = "espeak-ng"

    def version(self) -> str:
        """Say the engine's version; raises UserError when the engine is not installed."""
        return version_in(run_program(["espeak-ng", "--version"], self.name))

    def variants(self) -> list[str]:
        """Names of the voice variants that are installed, sorted; any accent can take each."""
        table = run_program(["espeak-ng", "--voices=variant"], self.name)
        # The file column is the only one with `!v/`; names may hold single spaces.
        found = re.findall(r"!v/(\S+(?: \S+)*)", table)
        return sorted(name.split(" (")[0] for name in found)

    def phonemes(self, text: str, accent: str) -> str:
        """Spell `text` in the International Phonetic Alphabet."""
        return run_program(["espeak-ng", "-q", "--ipa", "-v", accent, text], self.name).strip()

    def speak(self, voice: str, takes: Sequence[Take], scratch: Path) -> Iterator[Sound]:
        """Give the sound of each take in turn."""
        path = scratch / "espeak-ng.wav"
        for take in takes:
            pitch, words_per_minute = round(99 * take.pitch), round(160 * take.speed)
            options = ["-v", voice, "-p", str(pitch), "-s", str(words_per_minute), "-w", str(path)]
            run_program(["espeak-ng", *options, take.word + take.mark], self.name)
            yield read_sound(path)
