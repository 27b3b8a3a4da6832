"""Binary layers of every kind, shape, stride and padding give what the graph before gave."""

import pytest
from binary_layer_graphs import CONV1, CONV2, assert_binary, layer, weights_of
from graphs import floats
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, (4,), (1, 4), (1,), ()])
def test_a_gemm_becomes_binary(transposed: int, bias: tuple[int, ...] | None) -> None:
    weights = weights_of(0, 9, 4)
    model = layer(
        "Gemm",
        (1, 9),
        weights.T.copy() if transposed else weights,
        axes=[-1],
        bias=None if bias is None else floats(1, *bias),
        transB=transposed,
    )
    assert_binary(model, "BinaryLinear", 2)


@pytest.mark.parametrize("x", [CONV1, CONV2, (1, 5, 2, 3, 2)])
@pytest.mark.parametrize("axes", [[1], None], ids=["per frame", "per sample"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_1x1_convolution_becomes_binary(
    x: tuple[int, ...], axes: list[int] | None, bias: bool
) -> None:
    weights = weights_of(0, 4, 5, *[1] * (len(x) - 2))
    model = layer("Conv", x, weights, axes=axes, bias=floats(1, 4) if bias else None)
    assert_binary(model, "BinaryLinear", 2)


def test_a_1x1_convolution_with_strides_becomes_binary() -> None:
    model = layer("Conv", CONV2, weights_of(0, 4, 5, 1, 1), strides=[2, 2])
    assert_binary(model, "BinaryConv2d", 2)


@settings(max_examples=30)
@given(
    channels=st.integers(1, 19),
    outputs=st.integers(1, 5),
    size=st.tuples(*[st.integers(3, 7)] * 2),
    kernel=st.tuples(*[st.integers(1, 3)] * 2),
    strides=st.tuples(*[st.integers(1, 3)] * 2),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    slope=st.sampled_from([0.5, -1.3]),
    single=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_any_convolution_of_one_group_gives_the_same(
    channels: int,
    outputs: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    slope: float,
    single: bool,
    seed: int,
) -> None:
    x = (1, channels, *size)
    model = layer(
        "Conv",
        x,
        weights_of(seed, outputs, channels, *kernel),
        bias=floats(seed + 1, outputs),
        theta=floats(seed + 2, channels, 1, 1),
        theta2=floats(seed + 3, channels, 1, 1),
        slope=slope,
        single=single,
        strides=strides,
        pads=pads,
    )
    plain = kernel == (1, 1) and strides == (1, 1) and not any(pads)
    op = "BinaryLinear" if plain else "BinaryConv2d"
    assert_binary(model, op, 1 if single else 2, floats(seed, *x))


@settings(max_examples=30)
@given(
    x=st.sampled_from([(1, 1), (1, 3), (1, 4, 1), (1, 2, 3, 1)]),
    channels=st.integers(1, 70),
    outputs=st.integers(1, 5),
    per_frame=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_any_matmul_gives_the_same(
    x: tuple[int, ...], channels: int, outputs: int, per_frame: bool, seed: int
) -> None:
    x = (*x[:-1], channels)
    model = layer(
        "MatMul",
        x,
        weights_of(seed, channels, outputs),
        axes=[-1] if per_frame else None,
        theta=floats(seed + 2, channels),
        theta2=floats(seed + 3, channels),
        slope=-0.5,
    )
    assert_binary(model, "BinaryLinear", 2, floats(seed, *x))
