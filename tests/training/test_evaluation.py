"""Accuracy of torch networks on a split."""

from pathlib import Path

import pytest
import torch

from bicompile.model.config import NetworkConfig
from bicompile.model.network import BiFSMNv2
from bicompile.training.cache import Split
from bicompile.training.evaluation import BATCH, accuracy, answers, print_accuracies


@pytest.fixture
def network() -> BiFSMNv2:
    torch.manual_seed(0)
    return BiFSMNv2(NetworkConfig(front=2, hidden=8, memory=8, blocks=2, widths=(0, 1)))


def test_answers_are_the_largest_logits_of_that_width(network: BiFSMNv2) -> None:
    features = 20 * torch.randn(BATCH + 3, 32, 32)
    heard = {width: answers(network, features, width) for width in (0, 1)}
    with torch.no_grad():
        for width, found in heard.items():
            assert found.tolist() == network(features[:, None], width).argmax(1).tolist()
    assert heard[0].tolist() != heard[1].tolist()


def test_accuracy_is_that_of_the_clips_as_they_are(network: BiFSMNv2) -> None:
    features = 20 * torch.randn(2, 6, 32, 32)
    labels = torch.from_numpy(answers(network, features[0], 1))
    labels[0] = (labels[0] + 1) % 12
    split = Split(features, labels, ("a", "a", "b", "b", "b", "b"))
    assert accuracy(network, split, 1) == {"all": 5 / 6, "a": 0.5, "b": 1.0}


def test_accuracies_are_printed_in_per_cent(capsys: pytest.CaptureFixture[str]) -> None:
    print_accuracies({"student, width 0": {"all": 0.875}, "difference": {"all": -0.00512}})
    assert capsys.readouterr().out == (
        "test accuracy, %    all\nstudent, width 0  87.50\ndifference        -0.51\n"
    )


def test_a_finished_run_has_its_plots_beside_its_metrics(whole: Path) -> None:
    names = ("accuracy.png", "confusion.png", "learning-curves.png", "metrics.jsonl")
    assert all((whole / name).is_file() for name in names)
