"""The TFLite operators that a model may use, and what their kernels rely on.

Numbers are those of schema.fbs: BuiltinOperator, BuiltinOptions and the fields of the latter's tables. Not
among them are operators with graphs, files, tables, text, resources or code of their own.
"""

_MANY = 2**20

_UNARY = (
    *(1, 5, 6, 8, 11, 12, 14, 17, 19, 20, 21, 25, 26, 28),  # pools, depth and space, activations, dequantize
    *(43, 47, 50, 53, 59, 66, 73, 75, 76, 77, 92, 93, 98, 101, 104, 108, 110, 111),  # squeeze, exp … elu
    *(87, 114, 116, 117, 150, 152, 158),  # not, quantize, round, hard swish, gelu, relu 0 to 1, sign
)
_BINARY = (
    *(0, 18, 41, 42, 55, 57, 78, 90, 95, 99),  # arithmetic
    *(58, 61, 62, 63, 71, 72, 84, 86),  # comparison and logic
    *(40, 74, 81, 82, 89, 91, 139, 56, 79, 128),  # reductions and running sums
    *(23, 97, 34, 100, 69, 70, 94, 130, 145),  # resize, pad, tile, expand, fill, broadcast
    *(36, 39, 54, 105, 107, 126),  # gather, transpose, prelu, reverse, gather_nd, matmul
)

ARITY: dict[int, tuple[int, int]] = {
    **dict.fromkeys(_UNARY, (1, 1)),
    **dict.fromkeys(_BINARY, (2, 2)),
    **dict.fromkeys((37, 38, 60, 64, 65, 123), (3, 3)),  # space and batch, padv2, select, slice
    **dict.fromkeys((3, 4, 9, 132), (2, 3)),  # convolutions, fully connected
    **dict.fromkeys((67, 141), (3, 4)),  # transposed convolutions
    2: (1, _MANY),  # concatenation
    22: (1, 2),  # reshape
    35: (5, 5),  # recurrent
    44: (20, 24),  # LSTM
    45: (4, 4),  # strided slice
    49: (2, 2),  # split
    83: (1, _MANY),  # pack
    88: (1, 1),  # unpack
    102: (3, 3),  # split_v
    106: (1, _MANY),  # add_n
}
"""By operator the least and the most inputs."""

SEVERAL_OUTPUTS = {49, 88, 102}
"""Split, unpack and split_v; all others have one."""

MAY_BE_ABSENT = {9: {2}, 44: {1, 5, 9, 10, 11, 12, 16, 17, 20, 21, 22, 23}}
"""By operator the inputs that may be -1: a bias; an LSTM's coupled gate, peepholes, projection and norms."""

OUTPUT_LIKE = {49: 1, 64: 1, 67: 2, 94: 1, 123: 1, 141: 2}
"""By operator the input whose type its outputs must have, if not the first: kernels write as such."""

OUTPUT_TYPES: dict[int, tuple[int, ...]] = {
    **dict.fromkeys((58, 61, 62, 63, 71, 72, 84, 86, 87, 91, 139), (6,)),  # bool: comparisons, logic
    **dict.fromkeys((56, 77, 79, 110), (2, 4)),  # integers: shape, rank, arg_max and arg_min
    6: (0,),  # dequantize
    53: (0, 1, 2, 3, 4, 6, 7, 9),  # cast
    114: (3, 7, 9),  # quantize
}
"""By operator the types that its outputs may have, where they go by no input."""

POSITIVE_OPTIONS: dict[int, dict[int, int]] = {
    1: {1: 0, 2: 0, 4: 1, 5: 1},  # Conv2DOptions: strides, dilations
    2: {1: 0, 2: 0, 5: 1, 6: 1},  # DepthwiseConv2DOptions
    5: {1: 0, 2: 0, 3: 0, 4: 0},  # Pool2DOptions: strides, sides
    49: {1: 0, 2: 0},  # TransposeConvOptions
    106: {1: 0, 2: 0, 3: 0, 5: 1, 6: 1, 7: 1},  # Conv3DOptions
}
"""By kind of options the fields that must be positive, with their defaults."""

COUNTED_INPUTS = {83: 59}
"""By operator (pack) the kind of options whose first field is how many inputs it has."""

COUNTED_OUTPUTS = {49: 35, 88: 64, 102: 79}
"""By operator (split, unpack, split_v) the kind of options whose first field is how many outputs it has."""

VECTORS_OF_OPTIONS: dict[int, dict[int, int]] = {8: {5: 1}, 17: {0: 4}, 30: {0: 4}}
"""By kind of options (fully connected, reshape, squeeze) the fields that are vectors: their entries' size."""

SIZES_IN = {
    22: (1,),
    23: (1,),
    34: (1,),
    60: (1,),
    67: (0,),
    69: (1,),
    94: (0,),
    97: (1,),
    100: (1,),
    130: (1,),
    141: (0,),
}
"""By operator the inputs whose values are sizes of its output."""
