"""A corpus of the zoo's clips: 22 spoken test clips of two engines and many voices, as they are."""

import json
import shutil
from pathlib import Path

import numpy as np
import soundfile

import bicompile

ZOO = Path(bicompile.__file__).parent / "zoo"
CLIPS = ZOO / "clips"


def write_zoo_corpus(folder: Path) -> Path:
    """Training and validation have a voice each, which says what the test voices say."""
    entries = []
    for clip in json.loads((CLIPS / "manifest.json").read_text()):
        if clip["engine"] == "silence":
            continue
        word, name = clip["source"].split("/")
        sources = {"test": name, "train": f"1_{name}", "validation": f"2_{name}"}
        (folder / word).mkdir(parents=True, exist_ok=True)
        for split, copy in sources.items():
            shutil.copy(CLIPS / clip["file"], folder / word / copy)
            voice = clip["voice"] if split == "test" else split
            files = [f"{word}/{copy}"]
            spoken = {"engine": clip["engine"], "voice": voice, "split": split, "files": files}
            entries.append(spoken)
    noise = folder / "_background_noise_"
    noise.mkdir()
    for path in (CLIPS / "silence").glob("*.wav"):
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(noise / path.name, np.tile(samples, 10), rate)
    for split, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
        files = [file for entry in entries if entry["split"] == split for file in entry["files"]]
        (folder / name).write_text("".join(f"{file}\n" for file in files))
    (folder / "manifest.json").write_text(json.dumps({"speakers": entries}))
    return folder
