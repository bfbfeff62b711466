"""One ONNX graph, one file: what the converter leaves to chance is put in order.

tf2onnx numbers its tensors, and picks among equal constants, by the order of Python sets, which changes
from process to process; and Keras numbers layers by how many there were before.
"""

from collections.abc import Iterator

import onnx


def canonicalize(graph: onnx.GraphProto) -> None:
    """Sort and rename nodes and constants by what the graph computes; inputs and outputs keep their names.

    Nodes come in the order in which the outputs need them, equal constants become one, and what nothing
    needs is dropped. A graph with graphs inside (loops) is left as it is.
    """
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return
    nodes = list(_in_order(graph))
    constants = {constant.name: constant for constant in graph.initializer}
    names = {"": "", **{value.name: value.name for value in (*graph.input, *graph.output)}}
    kept: dict[tuple[int, tuple[int, ...], bytes], onnx.TensorProto] = {}
    for i, node in enumerate(nodes):
        for name in node.input:
            if name in constants and name not in names:
                constant = constants[name]
                content = onnx.numpy_helper.to_array(constant).tobytes()
                same = kept.setdefault((constant.data_type, tuple(constant.dims), content), constant)
                if same is constant:
                    constant.name = f"constant_{len(kept) - 1}"
                names[name] = same.name
        node.name = f"{node.op_type}_{i}"
        for k, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}_{k}" if k else node.name)
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept.values())


def _in_order(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that the outputs need, each after those that it needs itself."""
    maker = {name: node for node in graph.node for name in node.output if name}
    done: set[int] = set()
    waiting = [(maker[value.name], False) for value in reversed(graph.output)]
    while waiting:
        node, ready = waiting.pop()
        if ready:
            yield node
        elif id(node) not in done:
            done.add(id(node))
            waiting.append((node, True))
            waiting.extend((maker[name], False) for name in reversed(node.input) if name in maker)
