"""QONNX as Brevitas exports it: `BipolarQuant(x, scale)` is scale where x >= 0, else -scale.

The graphs are built by hand, with the weights of a torch network that computes the same. Its op is
unknown to onnxruntime: `with_functions` adds its definition to a model, so that it runs.
"""

from collections.abc import Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from .member import BINARY, HAND, INPUT_IS_REAL, INPUT_SCALE_VARIES, WEIGHT_SCALE_VARIES, Member
from .parts import sign

DOMAIN = "qonnx.custom_op.general"


def with_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with BipolarQuant as a function in standard ops."""
    nodes = [
        helper.make_node("Constant", [], ["zero"], value_float=0.0),
        helper.make_node("Neg", ["scale"], ["minus"]),
        helper.make_node("GreaterOrEqual", ["x", "zero"], ["positive"]),
        helper.make_node("Where", ["positive", "scale", "minus"], ["y"]),
    ]
    opsets = [helper.make_opsetid("", 20)]
    function = helper.make_function(DOMAIN, "BipolarQuant", ["x", "scale"], ["y"], nodes, opsets)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.functions.append(function)
    return copy


class Quantized(nn.Module):
    """scale·sign(weight), and the scale of the activation before it."""

    def __init__(self, shape: Sequence[int], weight_scale: Tensor, input_scale: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(tuple(shape)))
        self.weight_scale = nn.Parameter(weight_scale)
        self.input_scale = nn.Parameter(input_scale)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.input_scale * sign(x), self.weight_scale * sign(self.weight)


class Net(nn.Module):
    """Convolution, norm, convolution, then a matrix product and a Gemm, all quantized.

    Sums that meet a sign take in an odd count of products, so that none is zero: what a zero sum of
    ±σ rounds to depends on the order.
    """

    def __init__(self) -> None:
        super().__init__()
        one = torch.tensor(1.0)
        self.conv1 = Quantized((5, 1, 3, 3), torch.tensor(0.1), one)
        self.norm = nn.BatchNorm2d(5)
        self.conv2 = Quantized((5, 5, 3, 3), torch.rand(5, 1, 1, 1) + 0.1, torch.tensor(0.5))
        self.fc1 = Quantized((9, 45), torch.rand(9, 1) + 0.1, one)
        self.fc2 = Quantized((4, 9), torch.tensor(0.25), torch.tensor(2.0))
        self.bias = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        # The first layer takes the real input.
        x = self.norm(functional.conv2d(x, self.conv1(x)[1], padding=1))
        x = functional.conv2d(*self.conv2(x), stride=2)
        x = functional.linear(*self.fc1(x.flatten(1)))
        return functional.linear(*self.fc2(x), self.bias)


class OneConv(nn.Module):
    """One convolution with given scales."""

    def __init__(self, weight_scale: Tensor, input_scale: Tensor) -> None:
        super().__init__()
        self.conv = Quantized((5, 6, 3, 3), weight_scale, input_scale)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(*self.conv(x), padding=1)


class _Writer:
    """Collects nodes and initializers."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, tensor: Tensor) -> str:
        array = np.ascontiguousarray(tensor.detach().numpy())
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, layer: str, inputs: list[str], **attributes: object) -> str:
        name = f"/{layer}/{op}"
        name += f"_{sum(node.name.startswith(name) for node in self.nodes)}"
        domain = DOMAIN if op == "BipolarQuant" else ""
        output = f"{name}_output_0"
        self.nodes.append(
            helper.make_node(op, inputs, [output], name=name, domain=domain, **attributes)
        )
        return output

    def weight(self, layer: str, quantized: Quantized) -> str:
        weight = self.constant(f"{layer}.weight", quantized.weight)
        scale = self.constant(f"{layer}.weight_scale", quantized.weight_scale)
        return self.node("BipolarQuant", layer, [weight, scale])

    def activation(self, layer: str, quantized: Quantized, x: str) -> str:
        scale = self.constant(f"{layer}.input_scale", quantized.input_scale)
        return self.node("BipolarQuant", layer, [x, scale])

    def model(
        self, output: str, input_shape: tuple[int, ...], output_shape: tuple[int, ...]
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "qonnx",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, output_shape)],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _net_graph(net: nn.Module) -> onnx.ModelProto:
    assert isinstance(net, Net)
    write = _Writer()
    weight = write.weight("conv1", net.conv1)
    x = write.node("Conv", "conv1", ["x", weight], pads=[1] * 4, kernel_shape=[3, 3])
    norm = net.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    parameters = {
        "gamma": norm.weight,
        "beta": norm.bias,
        "mean": norm.running_mean,
        "variance": norm.running_var,
    }
    constants = [write.constant(f"norm.{name}", tensor) for name, tensor in parameters.items()]
    x = write.node("BatchNormalization", "norm", [x, *constants], epsilon=norm.eps)
    x = write.activation("conv2", net.conv2, x)
    weight = write.weight("conv2", net.conv2)
    x = write.node("Conv", "conv2", [x, weight], strides=[2, 2], kernel_shape=[3, 3])
    x = write.node("Flatten", "", [x], axis=1)
    x = write.activation("fc1", net.fc1, x)
    weight = write.node("Transpose", "fc1", [write.weight("fc1", net.fc1)], perm=[1, 0])
    x = write.node("MatMul", "fc1", [x, weight])
    x = write.activation("fc2", net.fc2, x)
    weight, bias = write.weight("fc2", net.fc2), write.constant("bias", net.bias)
    x = write.node("Gemm", "fc2", [x, weight, bias], transB=1)
    return write.model(x, (1, 1, 8, 8), (1, 4))


def _one_conv_graph(net: nn.Module) -> onnx.ModelProto:
    assert isinstance(net, OneConv)
    write = _Writer()
    x = write.activation("conv", net.conv, "x")
    x = write.node("Conv", "conv", [x, write.weight("conv", net.conv)], pads=[1] * 4)
    return write.model(x, (1, 6, 5, 7), (1, 5, 5, 7))


def _one_conv(name: str, weight: Tensor, activation: Tensor, expected: str = BINARY) -> Member:
    return Member(
        f"qonnx_{name}",
        lambda: (OneConv(weight, activation), torch.randn(1, 6, 5, 7)),
        {"conv": expected},
        exporters=(HAND,),
        graph=_one_conv_graph,
    )


_ONE = torch.tensor(1.0)

MEMBERS = (
    Member(
        "qonnx",
        lambda: (Net(), torch.randn(1, 1, 8, 8)),
        {"conv1": INPUT_IS_REAL, "conv2": BINARY, "fc1": BINARY, "fc2": BINARY},
        exporters=(HAND,),
        graph=_net_graph,
    ),
    _one_conv("negative_scales", torch.tensor(-0.3), torch.tensor([-2.0])),
    _one_conv("per_input", torch.rand(1, 6, 1, 1), _ONE, WEIGHT_SCALE_VARIES),
    _one_conv("per_channel", _ONE, torch.rand(1, 6, 1, 1), INPUT_SCALE_VARIES),
)
