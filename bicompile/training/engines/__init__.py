"""Speech engines that can say a word, behind one small protocol."""

from bicompile.training.engines.engine import Engine, Sound, Take
from bicompile.training.engines.espeak import EspeakNg
from bicompile.training.engines.festival import Festival
from bicompile.training.engines.flite import Flite
from bicompile.training.engines.hibari import Hibari
from bicompile.training.engines.piper import Piper

__all__ = ["ENGINES", "Engine", "EspeakNg", "Festival", "Flite", "Hibari", "Piper", "Sound", "Take"]

ENGINES: dict[str, Engine] = {
    engine.name: engine for engine in (EspeakNg(), Flite(), Festival(), Hibari(), Piper())
}
