"""Listing an unpacked archive of Google Speech Commands, V1 (30 words) or V2 (35 words).

The layout and the split are those of P. Warden, "Speech Commands: A Dataset for Limited-Vocabulary
Speech Recognition", arXiv:1804.03209: a folder per word, clips named SPEAKER_nohash_N.wav, and two
lists that name the clips of validation and test. Without the lists the rule that made them is used:
a speaker whose SHA-1, as a share of what it can be, lies in the first tenth is for validation, in
the second tenth for test.

Classes are those of the code released with BiFSMN and BiFSMNv2 (speech_commands.py and
train_valid_test.py there):

- 12 classes: ten keywords; every other word of the split is `unknown`, none left out, which makes
  it about two thirds of V1; `silence` is a tenth as many seconds of zeros as the split has clips.
- 20 and 35 classes: those words, and nothing of the others; no unknown, no silence.
- Background noise is for training alone, all of it: mixed into words and silences.

So silence is zeros wherever accuracy is measured, and easy. The lists of 12 and 20 fit V1 and V2,
35 fits V2. 30 is every word of V1, which the released code does not have; V2 has these words too.
"""

from hashlib import sha1
from pathlib import Path

from bicompile.errors import UserError
from bicompile.training.sample import LIST_OF_SPLIT, Listing, Sample

SPEAKER_END = "_nohash_"
HASHES = 2**27
"""Speakers are counted modulo this; a share is of the largest remainder."""
TENTH = 10.0  # per cent


def list_speech_commands(folder: Path) -> Listing:
    """List the clips of every word folder, sorted by name; the voice is the speaker's.

    Raises UserError for a folder of another layout, and for lists that are not of its clips.
    """
    words = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._"
    )
    names = [f"{word}/{name}" for word in words for name in _sounds_in(folder / word)]
    if not names:
        raise UserError(
            f"{folder} is neither an unpacked Speech Commands archive (no WORD/*.wav in it) nor a "
            f"corpus of bicompile synthesize (no manifest.json); {_advice(folder)}"
        )
    strangers = [name for name in names if SPEAKER_END not in name]
    if strangers:
        raise UserError(
            f"{folder} has {len(strangers)} clips that do not name their speaker, the first is "
            f"{strangers[0]}; clips of Speech Commands are called WORD/SPEAKER_nohash_N.wav"
        )
    lists = _read_lists(folder, set(names))
    clips = []
    for name in names:
        word, file = name.split("/")
        speaker = file.split(SPEAKER_END)[0]
        split = lists.get(name, "train") if lists else split_of(speaker)
        clips.append(Sample(folder / name, word, split, "recorded", speaker))
    origin = {
        "format": "speech-commands",
        "words": len({clip.label for clip in clips}),
        "split": "lists" if lists else "names",
    }
    return Listing(clips, origin, silence_share=0.1, quiet_share=1.0, noise_share=1.0)


def split_of(speaker: str) -> str:
    """Return the split that the published rule gives to a speaker."""
    share = int(sha1(speaker.encode()).hexdigest(), 16) % HASHES * (100.0 / (HASHES - 1))
    if share < TENTH:
        return "validation"
    return "test" if share < 2 * TENTH else "train"


def _sounds_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".wav")


def _advice(folder: Path) -> str:
    """What to give instead; archives are often unpacked into a folder of their own."""
    for pattern in ("*/testing_list.txt", "*/*/testing_list.txt"):
        for path in sorted(folder.glob(pattern)):
            return f"give {path.parent}"
    return "make one with: bicompile synthesize"


def _read_lists(folder: Path, names: set[str]) -> dict[str, str]:
    """The split of every clip that a list names; empty when there are no lists."""
    paths = {split: folder / name for split, name in LIST_OF_SPLIT.items()}
    absent = [path for path in paths.values() if not path.is_file()]
    if len(absent) == len(paths):
        return {}
    if absent:
        raise UserError(
            f"{absent[0]} is missing; unpack it again, or delete the other list too: the split "
            "then follows from the names of the clips"
        )
    splits: dict[str, str] = {}
    for split, path in paths.items():
        try:
            listed = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        except UnicodeDecodeError:
            raise UserError(f"{path} is not a list of clips; unpack it again") from None
        lost = [name for name in listed if name not in names]
        if lost:
            raise UserError(
                f"{path} names {len(lost)} clips that {folder} does not have, the first is "
                f"{lost[0]}; unpack the archive again"
            )
        twice = [name for name in listed if name in splits]
        if twice:
            raise UserError(f"{path} names {twice[0]}, which is in {LIST_OF_SPLIT['validation']}")
        splits |= dict.fromkeys(listed, split)
    return splits
