from hypothesis import given
from hypothesis import strategies as st

from bicompile.schedules.decisions import Tile
from bicompile.tuning.search import Search

SPACES = {"tile": {"rows": (4, 1, 2), "outputs": (2, 1)}}


def cost(tile: Tile) -> float:
    return 10 / tile.rows + tile.outputs


def test_the_default_comes_first() -> None:
    assert Search(SPACES).next() == Tile(4, 2)


def test_everything_is_tried_once_and_then_nothing() -> None:
    search, tried = Search(SPACES), []
    while (found := search.next()) is not None:
        tried.append(found)
        search.tell(found, cost(found))
    assert len(tried) == len(set(tried)) == search.size == 6


def test_what_was_tried_before_is_not_tried_again() -> None:
    search = Search(SPACES)
    search.tell(Tile(4, 2), 5.0)
    search.tell(Tile(1, 1), 5.0)
    left = {search.next() for _ in range(4)}
    assert left == {Tile(4, 1), Tile(1, 2), Tile(2, 1), Tile(2, 2)}
    assert search.next() is None


def test_candidates_under_way_are_not_given_twice() -> None:
    search = Search(SPACES)
    assert len({search.next() for _ in range(6)}) == 6


def test_a_default_that_fails_is_tried_again_and_then_given_up() -> None:
    search = Search(SPACES)
    for _ in range(3):
        assert search.next() == search.default
        search.tell(search.default, None)
    assert search.next() is None


@given(st.integers(0, 1000))
def test_a_search_with_one_seed_is_one_search(seed: int) -> None:
    first, second = Search(SPACES, seed), Search(SPACES, seed)
    for _ in range(6):
        found = first.next()
        assert found is not None
        assert found == second.next()
        for search in (first, second):
            search.tell(found, cost(found))
