"""hibari, a small neural voice: https://pypi.org/project/hibari-tts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bicompile.training.engines.engine import Sound, Take, version_of_package


class Hibari:
    """hibari with the one voice that its package holds, `heart`."""

    name = "hibari"

    def version(self) -> str:
        """Say the engine's version; raises UserError when the engine is not installed."""
        return version_of_package("hibari-tts", self.name)

    def speak(self, voice: str, takes: Sequence[Take], scratch: Path) -> Iterator[Sound]:
        """Give the sound of each take in turn; the pitch is set between network and vocoder."""
        import hibari
        from hibari import dsp

        network = hibari.Hibari(voice, threads=1)
        noise = np.random.default_rng(0)
        for take in takes:
            # A full stop would make abbreviations of words: `no.` is read as `number`.
            (phonemes,) = network.phonemize(take.word + take.mark.replace(".", ""))
            ids = np.array([network.ids(phonemes)])
            inputs = {"ids": ids, "speed": np.array([take.speed], np.float32)}
            *spectrum, pitch = (output[0] for output in network.sess.run(None, inputs))
            factor = np.float32(2 ** (0.8 * (take.pitch - 0.5)))
            yield dsp.synth(*spectrum, pitch * factor, noise), hibari.SAMPLE_RATE
