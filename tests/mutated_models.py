"""The models that are damaged at random: small, with all kinds of binary layers."""

import numpy as np
import onnx
from graphs import SIGN, dual_scale
from networks import binarized, keyword_network, model_of, signs
from onnx import TensorProto, helper


def bases() -> list[onnx.ModelProto]:
    """A network with biases and norms, one with one axis, and one with two planes."""
    return [keyword_network(), _one_axis(), _two_planes()]


def _one_axis() -> onnx.ModelProto:
    """A grouped convolution with a batch norm, a Sign, and two products of what comes out."""
    generator = np.random.default_rng(3)
    constants = {
        "shift": np.float32([[[0.5], [-1], [0], [2]]]),
        "weights": signs(generator, 6, 2, 3) * np.float32(0.5),
        "gamma": np.float32([1, -2, 0, 0.5, 1, -1]),
        "beta": np.float32([0, 1, 0.5, -1, 0, 2]),
        "mean": np.float32([0, 0, 1, -1, 2, 0]),
        "var": np.float32([1, 2, 0.5, 1, 1, 3]),
        "half": np.float32(0.5),
        "shape": np.array([1, -1]),
        "matrix": signs(generator, 30, 7),
    }
    node = helper.make_node
    nodes = [
        node("Add", ["x", "shift"], ["shifted"], "shift"),
        node("Sign", ["shifted"], ["sign"], "sign"),
        node("Add", ["sign", "half"], ["raised"], "raise"),
        node("Sign", ["raised"], ["bits"], "sign_again"),
        node("Conv", ["bits", "weights"], ["sums"], "conv", group=2, pads=[2, 1], dilations=[2]),
        node("BatchNormalization", ["sums", "gamma", "beta", "mean", "var"], ["normed"], "norm"),
        node("Clip", ["normed"], ["clipped"], "clip"),
        node("Reshape", ["clipped", "shape"], ["flat"], "flatten"),
        node("Greater", ["flat", "half"], ["above"], "compare"),
        node("Cast", ["above"], ["numbers"], "cast", to=TensorProto.FLOAT),
        node("MatMul", ["numbers", "matrix"], ["product"], "product"),
        node("Softmax", ["product"], ["y"], "softmax", axis=-1),
    ]
    return model_of(nodes, constants, x=(1, 4, 6), y=(1, 7))


def _two_planes() -> onnx.ModelProto:
    """A dual-scale product, a PReLU, a residual and a pooled maximum of signs."""
    generator = np.random.default_rng(4)
    constants = {
        **SIGN,
        "theta": np.float32([[[0.5]], [[-0.5]], [[0.1]]]),
        "theta1": np.float32(0.2),
        "theta2": np.float32(0.3),
        "alpha": np.float32(-0.7),
        "axes": np.array([1, 2, 3]),
        "weights": signs(generator, 3, 3, 3, 3),
        "slope": np.float32([[[0.25]], [[0.5]], [[0.1]]]),
        "more": signs(generator, 2, 3, 1, 1),
    }
    node = helper.make_node
    nodes = [
        *dual_scale("x", "a", "axes"),
        node("Conv", ["a", "weights"], ["sums"], "conv", pads=[1, 1, 1, 1]),
        node("PRelu", ["sums", "slope"], ["active"], "prelu"),
        node("Add", ["active", "x"], ["added"], "residual"),
        *binarized("added", "zero", "bits"),
        node("MaxPool", ["bits"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["pooled", "more"], ["y"], "point"),
    ]
    return model_of(nodes, constants, x=(1, 3, 4, 4), y=(1, 2, 2, 2))
