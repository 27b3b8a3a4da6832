import numpy as np
import pytest

from bicompile.schedules.microkernels.weights import Piece, cut, lay_out, leaves


@pytest.mark.parametrize("row_bytes", [*range(1, 70), 128, 143, 496, 513])
def test_chunks_hold_every_byte_of_a_row_once(row_bytes: int) -> None:
    assert sum(piece.size for chunk in cut(row_bytes) for piece in chunk) == row_bytes


@pytest.mark.parametrize("row_bytes", [*range(1, 70), 128, 143, 496, 513])
def test_a_lane_of_eight_bits_holds_its_sum(row_bytes: int) -> None:
    # Two lanes an output after three levels; a single byte is not summed in lanes of eight bits.
    sums = [4 * sum(piece.size for piece in chunk if piece.size > 1) for chunk in cut(row_bytes)]
    assert max(sums) <= 255


def test_a_patch_of_fifty_bytes_is_one_chunk() -> None:
    assert cut(50) == ((Piece(16), Piece(16), Piece(16), Piece(2)),)


def test_long_rows_begin_with_what_chunks_of_three_leave_over() -> None:
    assert [len(chunk) for chunk in cut(8 * 16)] == [2, 3, 3]


def test_a_chunk_is_read_in_the_order_of_its_tree() -> None:
    order = [(0, 0), (0, 1), (1, 0), (0, 2), (0, 3), (1, 1)]
    assert list(leaves((Piece(16), Piece(8))))[:6] == order


@pytest.mark.parametrize("row_bytes", [1, 2, 16, 31, 50, 63, 160])
def test_a_laid_out_block_holds_every_byte_once(row_bytes: int) -> None:
    weights = np.random.default_rng(row_bytes).integers(0, 256, (16, row_bytes), np.uint8)
    laid = lay_out(weights, row_bytes)
    assert laid.shape == (1, row_bytes, 16)
    np.testing.assert_array_equal(np.sort(laid.ravel()), np.sort(weights.ravel()))


def test_rows_of_one_vector_keep_their_order() -> None:
    weights = np.arange(16 * 16, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(lay_out(weights, 16)[0], weights)


def test_a_rest_of_two_bytes_holds_eight_outputs_a_vector() -> None:
    weights = np.arange(32, dtype=np.uint8).reshape(16, 2)
    np.testing.assert_array_equal(lay_out(weights, 2)[0], weights.reshape(2, 16))


def test_outputs_after_the_last_are_clear() -> None:
    laid = lay_out(np.full((17, 16), 255, np.uint8), 16)
    assert laid.shape == (2, 16, 16)
    assert laid[1, 0].all()
    assert not laid[1, 1:].any()
