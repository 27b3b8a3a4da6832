"""The made pages in docs/ are what the code says; `--renew-goldens` writes them."""

from pathlib import Path

import pytest
from pages import GOLDENS, pages, pass_of

from bicompile.ops import FUNCTIONS
from bicompile.passes import PASSES

DOCS = Path(__file__).parents[1] / "docs"


def test_every_page_is_the_one_that_its_source_makes(request: pytest.FixtureRequest) -> None:
    made = pages()
    there = {"ops.md", *(f"passes/{path.name}" for path in (DOCS / "passes").glob("*"))}
    if request.config.getoption("renew_goldens"):
        for name in there - made.keys():
            (DOCS / name).unlink()
        for name, text in made.items():
            (DOCS / name).parent.mkdir(exist_ok=True)
            (DOCS / name).write_text(text)
        there = set(made)
    assert there == made.keys(), "renew the pages with pytest --renew-goldens"
    stale = [name for name, text in made.items() if (DOCS / name).read_text() != text]
    assert not stale, f"docs/{stale[0]} is stale: renew it with pytest --renew-goldens"


def test_every_golden_graph_is_of_a_pass() -> None:
    strays = [path.name for path in GOLDENS.iterdir()]
    passes = {rewrite.__name__ for rewrite in PASSES}
    assert [name for name in strays if pass_of(Path(name)) not in passes] == []


def test_every_pass_states_its_law_in_its_docstring() -> None:
    for text in (page for name, page in pages().items() if name.startswith("passes/")):
        law = text.split("\n\n")[1]
        assert len(law) > 10, text


def test_the_page_of_ops_has_a_section_for_every_op() -> None:
    page = pages()["ops.md"]
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == [
        function.name for function in FUNCTIONS
    ]
