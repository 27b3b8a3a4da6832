"""What networks hear in a corpus: the zoo's, and a small one that is compiled."""

import json
import subprocess
import sys
from hashlib import sha1
from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
import soundfile
from command_line import Run, refused
from zoo_corpus import ZOO, write_zoo_corpus

from bicompile import toolchain
from bicompile.artifact import read_artifact
from bicompile.devices import open_device
from bicompile.evaluate import evaluate
from bicompile.model.config import LABELS_12
from bicompile.recognise import recognise

CHECKPOINT = "zoo:bifsmnv2-kws12"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zoo_corpus(tmp_path_factory.mktemp("data") / "corpus")


def without_labels(model: Path, out: Path) -> Path:
    changed = onnx.load(model)
    del changed.metadata_props[:]
    onnx.save(changed, out)
    return out


# What is computed


def test_a_model_its_lowered_graph_and_its_artifact_hear_the_same(
    keyword_onnx: Path, compiled_folder: Path, corpus: Path
) -> None:
    things = [keyword_onnx, compiled_folder / "lowered.onnx", compiled_folder]
    found = evaluate([str(thing) for thing in things], corpus)
    assert [c.runs_in for c in found.classifiers] == ["onnxruntime", "onnxruntime", "emulator"]
    assert np.array_equal(found.heard[0], found.heard[1])
    assert np.array_equal(found.heard[0], found.heard[2])
    assert found.above_first(2)["all"].interval == (0, 0)


def test_the_shipped_checkpoint_and_its_onnx_files_hear_the_same(corpus: Path) -> None:
    files = [str(ZOO / f"bifsmnv2-kws12-width{width}.onnx") for width in range(4)]
    found = evaluate([CHECKPOINT, *files], corpus)
    assert [c.width for c in found.classifiers] == [*range(4), *[None] * 4]
    for width in range(4):
        assert np.array_equal(found.heard[width], found.heard[width + 4])
        assert found.accuracy(width)["all"] > 0.7


def test_words_are_those_that_the_artifact_recognises(compiled_folder: Path, corpus: Path) -> None:
    assert networks.LABELS != LABELS_12  # the artifact has the same labels in another order
    found = evaluate([str(ZOO / "bifsmnv2-kws12-width2.onnx"), str(compiled_folder)], corpus)
    assert found.labels == LABELS_12
    spoken = [number for number, clip in enumerate(found.clips) if clip.engine != "silence"]
    paths = [found.clips[number].path for number in spoken]
    heard = recognise(read_artifact(compiled_folder), open_device("emulator"), paths)
    words = [found.labels[found.heard[1][number]] for number in spoken]
    assert words == [recognition.word for recognition in heard]


def test_every_clip_of_the_split_is_heard_with_its_word_engine_and_voice(corpus: Path) -> None:
    found = evaluate([str(ZOO / "bifsmnv2-kws12-width2.onnx")], corpus)
    assert found.counts == {"all": 24, "espeak-ng": 20, "flite": 2, "silence": 2}
    assert found.total == len(found.clips) == 24
    assert [found.labels[number] for number in found.spoken] == [c.label for c in found.clips]
    assert len({clip.voice for clip in found.clips}) > 15


def test_the_validation_split_is_another(corpus: Path) -> None:
    found = evaluate([str(ZOO / "bifsmnv2-kws12-width2.onnx")], corpus, split="validation")
    assert {clip.voice for clip in found.clips if clip.engine != "silence"} == {"validation"}


def test_some_clips_are_those_whose_names_have_the_smallest_sha1(
    keyword_onnx: Path, compiled_folder: Path, corpus: Path
) -> None:
    whole = evaluate([str(keyword_onnx)], corpus)
    some = evaluate([str(keyword_onnx), str(compiled_folder)], corpus, clips=7)

    def name(clip: object) -> str:
        place = f"@{clip.start}" if clip.engine == "silence" else ""
        return f"{clip.path.parent.name}/{clip.path.name}{place}"

    order = sorted(map(name, whole.clips), key=lambda text: sha1(text.encode()).hexdigest())
    assert list(map(name, some.clips)) == order[:7]
    assert (some.total, some.counts["all"]) == (24, 7)
    assert all(len(heard) == 7 for heard in some.heard)


def test_answers_are_those_to_the_features_that_training_caches(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bicompile.model.checkpoint import load_checkpoint
    from bicompile.training.cache import load_features
    from bicompile.training.corpus import read_corpus
    from bicompile.training.evaluation import accuracy
    from bicompile.zoo import checkpoint

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = evaluate([CHECKPOINT], corpus)
    network, _ = load_checkpoint(checkpoint(CHECKPOINT))
    test = load_features(read_corpus(corpus), copies=1, seed=0)["test"]
    for number, width in enumerate(network.config.widths):
        assert found.accuracy(number) == pytest.approx(accuracy(network, test, width))


# The command


def test_the_table_tells_clips_accuracies_and_differences(
    bicompile: Run, keyword_onnx: Path, compiled_folder: Path, corpus: Path
) -> None:
    ended = bicompile("evaluate", keyword_onnx, compiled_folder, "--data", corpus, "--clips", 23)
    assert (ended.status, ended.err) == (0, "")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert lines[0] == "accuracy, %: 23 of 24 test clips runs in all espeak-ng flite silence"
    told = json.loads(
        bicompile("evaluate", keyword_onnx, "--data", corpus, "--clips", 23, "--json").out
    )
    shares = " ".join(f"{100 * share:.2f}" for share in told["rows"][0]["accuracy"].values())
    assert lines[1] == f"{keyword_onnx} onnxruntime {shares}"
    assert lines[2] == f"{compiled_folder} emulator {shares}"
    assert lines[3] == "clips " + " ".join(str(count) for count in told["clips"].values())
    assert lines[5].startswith("points above the first, with 95 % interval over voices all")
    assert lines[6].startswith(f"{compiled_folder} +0.00 (+0.0 to +0.0) +0.00 (+0.0 to +0.0)")
    assert len(lines) == 7


def test_json_tells_every_row_beside_the_first(
    bicompile: Run, keyword_onnx: Path, corpus: Path
) -> None:
    other = ZOO / "bifsmnv2-kws12-width2.onnx"
    ended = bicompile("evaluate", keyword_onnx, other, "--data", corpus, "--json")
    told = json.loads(ended.out)
    assert (told["split"], told["total"]) == ("test", 24)
    first, second = told["rows"]
    assert (second["thing"], second["width"], second["runs_in"]) == (
        str(other),
        None,
        "onnxruntime",
    )
    above = second["points_above_first"]["all"]
    gained = second["accuracy"]["all"] - first["accuracy"]["all"]
    assert above["points"] == pytest.approx(100 * gained)
    low, high = above["interval"]
    assert 20 < low < above["points"] < high <= 100
    assert second["points_above_first"]["flite"]["interval"] is None


def test_plots_are_written_where_told(bicompile: Run, corpus: Path, tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    ended = bicompile("evaluate", CHECKPOINT, "--data", corpus, "--plots", plots)
    assert ended.status == 0
    made = sorted(path.name for path in plots.iterdir())
    assert made == ["accuracy.png", "confusion.png", "learning-curves.png"]


WITHOUT_TRAINING = """
import sys
for name in ("torch", "safetensors", "matplotlib"):
    sys.modules[name] = None
from bicompile.cli import main
main()
"""


def test_onnx_files_and_artifacts_need_nothing_of_the_training_extra(
    keyword_onnx: Path, compiled_folder: Path, corpus: Path
) -> None:
    command = ["evaluate", keyword_onnx, compiled_folder, "--data", corpus]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRAINING, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_checkpoint_without_torch_is_one_sentence(
    bicompile: Run, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(bicompile("evaluate", CHECKPOINT, "--data", corpus), "this verb needs torch")


def test_plots_without_matplotlib_are_refused_before_the_work(
    bicompile: Run, keyword_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", *(n for n in sys.modules if n.startswith("matplotlib."))):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "bicompile.training.plots", raising=False)
    nowhere = tmp_path / "nowhere"
    ended = bicompile("evaluate", keyword_onnx, "--data", nowhere, "--plots", tmp_path / "plots")
    refused(ended, "this verb needs matplotlib")


# What is refused


def test_a_thing_that_is_none_of_them_is_refused(
    bicompile: Run, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("")
    for path, said in ((tmp_path / "notes.txt", "is neither"), (tmp_path / "no", "does not exist")):
        ended = bicompile("evaluate", path, "--data", corpus)
        refused(ended, f"{path} {said}", "give a checkpoint (.safetensors), an ONNX file")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bad.safetensors", "not a bicompile checkpoint"),
        ("bad.onnx", "is not an ONNX model"),
        ("bad", "is not an artifact"),
    ],
)
def test_a_damaged_thing_is_refused(
    bicompile: Run, corpus: Path, tmp_path: Path, name: str, said: str
) -> None:
    if name == "bad":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(b"\0" * 100)
    refused(bicompile("evaluate", tmp_path / name, "--data", corpus), str(tmp_path / name), said)


def test_a_network_of_other_words_is_refused_beside_the_first(
    bicompile: Run, keyword_onnx: Path, corpus: Path, tmp_path: Path
) -> None:
    labels = ["maybe" if label == "yes" else label for label in networks.LABELS]
    changed = onnx.load(keyword_onnx)
    onnx.helper.set_model_props(changed, {"bicompile.labels": json.dumps(labels)})
    onnx.save(changed, tmp_path / "other.onnx")
    ended = bicompile("evaluate", keyword_onnx, tmp_path / "other.onnx", "--data", corpus)
    refused(ended, "other.onnx", str(keyword_onnx), "only one has maybe, yes")
    refused(bicompile("evaluate", tmp_path / "other.onnx", "--data", corpus), str(corpus), "maybe")


def test_a_network_without_labels_is_refused(
    bicompile: Run, keyword_onnx: Path, corpus: Path, tmp_path: Path
) -> None:
    model = without_labels(keyword_onnx, tmp_path / "model.onnx")
    refused(bicompile("evaluate", model, "--data", corpus), "has 12 outputs and 0 labels")


def test_a_network_that_takes_no_clips_is_refused(
    bicompile: Run, corpus: Path, tmp_path: Path
) -> None:
    onnx.save(networks.float_network(), tmp_path / "float.onnx")
    ended = bicompile("evaluate", tmp_path / "float.onnx", "--data", corpus)
    refused(ended, "takes x of shape (1, 6), not the log-mel (1, 1, 32, 32) of a clip")


@pytest.mark.parametrize(
    ("device", "said"),
    [("cloud", "unknown device 'cloud'"), ("host", "was built for cortex-a53 (aarch64)")],
)
def test_a_device_that_does_not_take_the_artifact_is_refused(
    bicompile: Run, compiled_folder: Path, corpus: Path, device: str, said: str
) -> None:
    if device == "host" and toolchain.machine_arch() == "aarch64":
        pytest.skip("here the host is arm64 too")
    refused(bicompile("evaluate", compiled_folder, "--data", corpus, "--device", device), said)


def test_an_unknown_split_is_refused(bicompile: Run, keyword_onnx: Path, corpus: Path) -> None:
    ended = bicompile("evaluate", keyword_onnx, "--data", corpus, "--split", "dev")
    refused(ended, "there is no split 'dev'; give one of test, validation")


def test_a_folder_that_is_no_corpus_is_refused(
    bicompile: Run, keyword_onnx: Path, tmp_path: Path
) -> None:
    refused(bicompile("evaluate", keyword_onnx, "--data", tmp_path), str(tmp_path))


def test_an_unreadable_clip_is_refused_or_left_out(
    bicompile: Run, keyword_onnx: Path, tmp_path: Path
) -> None:
    corpus = write_zoo_corpus(tmp_path / "corpus")
    bad = next((corpus / "yes").glob("9*.wav"))
    bad.write_bytes(b"")
    refused(bicompile("evaluate", keyword_onnx, "--data", corpus), str(bad))
    command = ("evaluate", keyword_onnx, "--data", corpus, "--skip-unreadable", "--json")
    assert json.loads(bicompile(*command).out)["total"] == 22  # a clip and its silence less


def test_scores_that_are_not_numbers_are_refused(
    bicompile: Run, keyword_onnx: Path, corpus: Path, tmp_path: Path
) -> None:
    model = onnx.load(keyword_onnx)
    model.graph.node[-1].output[0] = "sums"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(-1e6), "far"))
    model.graph.node.append(onnx.helper.make_node("Add", ["sums", "far"], ["negative"]))
    model.graph.node.append(onnx.helper.make_node("Sqrt", ["negative"], ["y"]))
    onnx.save(model, tmp_path / "nan.onnx")
    ended = bicompile("evaluate", tmp_path / "nan.onnx", "--data", corpus)
    refused(ended, "nan.onnx gives scores that are not numbers")


def test_the_features_of_a_clip_of_another_rate_are_not_guessed(
    bicompile: Run, keyword_onnx: Path, tmp_path: Path
) -> None:
    corpus = write_zoo_corpus(tmp_path / "corpus")
    path = next((corpus / "no").glob("7*.wav"))
    soundfile.write(path, np.zeros(8000), 8000, subtype="PCM_16")
    refused(bicompile("evaluate", keyword_onnx, "--data", corpus), str(path), "8000 Hz")
