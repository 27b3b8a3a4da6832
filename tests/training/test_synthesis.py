"""Making the synthesized corpus: the same bytes for the same seed, whatever happens on the way."""

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
import soundfile

from bicompile.errors import UserError
from bicompile.training import synthesis
from bicompile.training.corpus import read_corpus
from bicompile.training.engines import ENGINES
from bicompile.training.sample import NOISE_FOLDER
from bicompile.training.speakers import Speaker
from bicompile.training.synthesis import synthesize

FEW = [
    Speaker("espeak-ng", "en-us+f2", "train", 1, 2),
    Speaker("festival", "ked_diphone", "validation", 1, 1),
    Speaker("piper", "joe", "test", 1, 1),
]


def keep_it_small(patch: pytest.MonkeyPatch) -> None:
    try:
        for engine in ENGINES.values():
            engine.version()
    except UserError as error:
        pytest.skip(str(error))
    patch.setattr(synthesis, "speakers", lambda: FEW)
    patch.setattr(synthesis, "NOISE_SECONDS", 8)


@pytest.fixture
def few_speakers(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_it_small(monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of the few, made with seed 0 in one process."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        keep_it_small(patch)
        synthesize(folder / "out", seed=0, jobs=1)
    assert [path.name for path in folder.iterdir()] == ["out"]
    return folder / "out"


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_clips_are_one_second_of_16_bit_samples_at_16_khz(made: Path) -> None:
    clips = [path for path in made.rglob("*.wav") if path.parent.name != NOISE_FOLDER]
    assert len(clips) == 12 + 11 + 11
    for path in clips:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.frames) == (16000, 1, 16000)
        assert info.subtype == "PCM_16"


def test_the_corpus_can_be_read_and_names_the_voice_of_every_clip(made: Path) -> None:
    corpus = read_corpus(made)
    spoken = [sample for sample in corpus.samples if sample.engine != "silence"]
    voices = Counter((sample.engine, sample.voice, sample.split) for sample in spoken)
    assert voices == {(who.engine, who.voice, who.split): who.clips for who in FEW}
    assert set(corpus.origin["engines"]) == set(ENGINES)


def test_the_manifest_names_all_clips_that_are_there(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    told = {file for entry in manifest["speakers"] for file in entry["files"]}
    found = {str(path.relative_to(made)) for path in made.rglob("*.wav")}
    assert told == {name for name in found if not name.startswith(NOISE_FOLDER)}


@pytest.mark.usefixtures("few_speakers")
def test_the_bytes_do_not_depend_on_the_processes(made: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "out", seed=0, jobs=3)
    assert contents(tmp_path / "out") == contents(made)


@pytest.mark.usefixtures("few_speakers")
def test_another_seed_makes_other_clips_of_the_same_names(made: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "out", seed=1, jobs=2)
    one, other = contents(made), contents(tmp_path / "out")
    yes = [name for name in one if name.startswith("yes/")]
    assert yes == [name for name in other if name.startswith("yes/")]
    assert not {one[name] for name in yes} & {other[name] for name in yes}


def times(folder: Path) -> dict[str, int]:
    """When each spoken clip was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*/*_nohash_*.wav")}


@pytest.mark.usefixtures("few_speakers")
def test_a_stopped_call_keeps_the_voices_it_finished(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(synthesis, "_collect", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            synthesize(tmp_path / "out", seed=0, jobs=1)
    assert not (tmp_path / "out").exists()
    written = times(tmp_path / ".out.partial")
    synthesize(tmp_path / "out", seed=0, jobs=1)
    assert times(tmp_path / "out") == written
    assert contents(tmp_path / "out") == contents(made)


@pytest.mark.usefixtures("few_speakers")
def test_a_finished_corpus_is_left_alone_and_another_seed_refused(made: Path) -> None:
    before = contents(made)
    synthesize(made, seed=0, jobs=1)
    with pytest.raises(UserError, match="another seed"):
        synthesize(made, seed=1, jobs=1)
    assert contents(made) == before


@pytest.mark.usefixtures("few_speakers")
def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").touch()
    with pytest.raises(UserError, match="something other than a corpus"):
        synthesize(tmp_path / "out", seed=0, jobs=1)
    with pytest.raises(UserError, match="is a file"):
        synthesize(tmp_path / "out" / "letter.txt", seed=0, jobs=1)


@pytest.mark.usefixtures("few_speakers")
@pytest.mark.parametrize("disk", [1000], indirect=True)
def test_a_disk_that_is_too_small_is_told_before_anyone_speaks(disk: Path) -> None:
    with pytest.raises(UserError, match="0 MiB left, the corpus takes 65 MiB"):
        synthesize(disk / "out", seed=0, jobs=1)
    assert list(disk.rglob("*.wav")) == []


@pytest.mark.usefixtures("few_speakers")
@pytest.mark.parametrize("disk", [1000], indirect=True)
def test_a_disk_that_fills_up_is_one_sentence(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "_check_space", lambda *_: None)
    with pytest.raises(UserError, match="the disk is full"):
        synthesize(disk / "out", seed=0, jobs=1)
    assert not (disk / "out").exists()


def test_a_missing_engine_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="apt install espeak-ng"):
        synthesize(tmp_path / "out", seed=0, jobs=1)
    assert list(tmp_path.iterdir()) == []
