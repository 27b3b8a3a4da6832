import json
import re
from html.parser import HTMLParser
from pathlib import Path

import networks
import onnx
import pytest
from command_line import Run, refused

import bicompile as package

CORE = "cortex-a53"


class Tags(HTMLParser):
    """Every tag of a page with its attributes; raises where one is closed that is not open."""

    _NO_END = ("meta",)

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self._NO_END:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@pytest.fixture(scope="module")
def folder(
    compiled_folder: Path,
    twin_folder: Path,
    keyword_onnx: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    from bicompile.artifact import read_artifact
    from bicompile.load import load_model
    from bicompile.reporting.page import write_report

    out = tmp_path_factory.mktemp("report") / "report"
    ours, twin = read_artifact(compiled_folder), read_artifact(twin_folder)
    write_report(ours, out, twin=twin, traced=load_model(keyword_onnx))
    return out


@pytest.fixture(scope="module")
def figures(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_the_page_needs_nothing_from_elsewhere(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    tags = Tags(page).tags
    assert {"script", "link", "img", "iframe", "object", "use"}.isdisjoint(tag for tag, _ in tags)
    assert not [a for _, attributes in tags for a in attributes if a in ("src", "href", "srcset")]
    assert "@import" not in page
    assert "url(" not in page


def test_the_page_has_its_charts(folder: Path) -> None:
    tags = Tags((folder / "report.html").read_text()).tags
    drawn = [attributes["aria-label"] for tag, attributes in tags if tag == "svg"]
    assert drawn == ["modelled cycles by layer", "roofline"]
    points = [attributes["class"] for tag, attributes in tags if tag == "circle"]
    assert {"binary", "twin"} <= set(points)


def test_the_bars_are_as_long_as_the_layers_take_cycles(folder: Path, figures: dict) -> None:
    page = (folder / "report.html").read_text()
    bars = re.findall(r'<rect class="binary" .* width="(.*?)" .*<title>(.*?): (\d+) cycles', page)
    cycles = {row["name"]: row["modelled_cycles"][CORE] for row in figures["layers"]}
    assert {name: int(spent) for _, name, spent in bars} == cycles
    scale = max(float(width) for width, *_ in bars) / max(cycles.values())
    for width, name, _ in bars:
        assert float(width) == pytest.approx(scale * cycles[name], abs=0.01)


def test_rows_sum_to_the_whole_run(figures: dict) -> None:
    for told in (figures, figures["float"]):
        rows = [*told["layers"], *told["others"]]
        assert sum(row["instructions"] for row in rows) == told["total"]["instructions"]
        cycles = sum(row["modelled_cycles"][CORE] for row in rows)
        assert cycles == told["total"]["modelled_cycles"][CORE]


def test_every_layer_says_what_it_became(figures: dict) -> None:
    assert [row["name"] for row in figures["layers"]] == ["front", "point", "head"]
    assert all(row["binary"] for row in figures["layers"])
    assert not any(row["binary"] for row in figures["float"]["layers"])
    assert all(row["reason"] for row in (*figures["layers"], *figures["float"]["layers"]))


def test_bytes_and_registers_are_told(figures: dict) -> None:
    head = figures["layers"][2]
    assert head["constant_bytes"] >= 12 * 3  # 18 bits in 3 bytes, of 12 outputs
    assert head["moved_bytes"] >= 4 * (18 + 12)
    assert all(0 < row["registers"] <= 32 for row in figures["layers"])
    assert figures["models"].keys() == {CORE}


def test_the_ratio_is_that_of_the_totals(figures: dict) -> None:
    ours, twin = (told["total"]["modelled_cycles"][CORE] for told in (figures, figures["float"]))
    assert figures["float_over_ours"][CORE] == pytest.approx(twin / ours)


def test_graphs_and_a_kernel_stand_before_and_after(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    before, after, nest, kernel = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    assert "front_output: float[1,20,8,8] = Conv(" in before
    assert "bicompile.BinaryConv2d(" in after
    assert "T.popcount" in nest
    assert "call_extern" in kernel
    assert "cnt v" in kernel


def test_a_name_in_a_page_is_text(tmp_path: Path) -> None:
    from bicompile.artifact import read_artifact
    from bicompile.reporting.page import write_report

    model = networks.float_network()
    model.graph.node[0].name = "<b>&"
    onnx.save(model, tmp_path / "float.onnx")
    package.compile(tmp_path / "float.onnx", target=CORE, out=tmp_path / "artifact")
    write_report(read_artifact(tmp_path / "artifact"), tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "b" not in {tag for tag, _ in Tags(page).tags}
    assert "&lt;b&gt;&amp;" in page
    assert "give the graph with --model" in page


def test_two_reports_are_the_same(
    bicompile: Run, folder: Path, compiled_folder: Path, twin_folder: Path, keyword_onnx: Path
) -> None:
    again = folder.with_name("again")
    command = ("--float", twin_folder, "--model", keyword_onnx, "-o", again)
    ended = bicompile("report", compiled_folder, *command)
    assert ended.status == 0
    assert f"{again}/report.html" in ended.out
    assert "times the modelled cycles of cortex-a53" in ended.out
    for name in ("report.html", "report.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_a_binary_network_is_no_float_twin(
    bicompile: Run, compiled_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    ended = bicompile("report", compiled_folder, "--float", compiled_folder, "-o", out)
    refused(ended, "is no float network (3 of its layers are binary)")
    assert not out.exists()


def test_a_twin_of_another_input_is_refused(
    bicompile: Run, compiled_folder: Path, tmp_path: Path
) -> None:
    onnx.save(networks.float_network(), tmp_path / "float.onnx")
    package.compile(tmp_path / "float.onnx", target=CORE, out=tmp_path / "twin")
    command = ("--float", tmp_path / "twin", "-o", tmp_path / "out")
    refused(bicompile("report", compiled_folder, *command), "has the shape [1, 6]")


def test_a_graph_of_other_layers_is_refused(
    bicompile: Run, compiled_folder: Path, tmp_path: Path
) -> None:
    onnx.save(networks.float_network(), tmp_path / "float.onnx")
    command = ("--model", tmp_path / "float.onnx", "-o", tmp_path / "out")
    refused(bicompile("report", compiled_folder, *command), "--model is another one: dense is")
    assert not (tmp_path / "out").exists()


def test_an_artifact_of_another_architecture_is_refused(
    bicompile: Run, host_folder: Path, tmp_path: Path
) -> None:
    refused(bicompile("report", host_folder, "-o", tmp_path / "out"), "compile with --target")


def test_a_folder_that_holds_something_else_is_left(
    bicompile: Run, compiled_folder: Path, copied: Path
) -> None:
    refused(bicompile("report", compiled_folder, "-o", copied), "no report.html in it")
    assert (copied / "model.o").exists()


@pytest.mark.parametrize("folder_name", ["nothing", "empty"])
def test_what_is_no_artifact_is_refused(bicompile: Run, tmp_path: Path, folder_name: str) -> None:
    (tmp_path / "empty").mkdir()
    ended = bicompile("report", tmp_path / folder_name, "-o", tmp_path / "out")
    refused(ended, "give the folder that `bicompile compile` wrote")


def test_an_unknown_core_is_refused(bicompile: Run, compiled_folder: Path, tmp_path: Path) -> None:
    command = ("--core", "cortex-m4", "-o", tmp_path / "out")
    refused(bicompile("report", compiled_folder, *command), "there are models for cortex-a53")
