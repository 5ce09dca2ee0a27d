import torch

from vis4mer.runtime.interface import GraphInterface, TensorSpec
from vis4mer_export.targets.axes import dynamic_shapes


def test_every_dynamic_axis_of_every_input_is_one_dim_by_its_name() -> None:
    tokens = TensorSpec("tokens", "float32", ("batch", 4, "length"))
    mask = TensorSpec("mask", "bool", ("batch", "length"))
    first, second = dynamic_shapes(GraphInterface((tokens, mask), ()))
    assert (first.keys(), second.keys()) == ({0, 2}, {0, 1})
    assert first[0] is second[0]
    assert first[2] is second[1]
    assert (first[0].__name__, first[2].__name__) == ("batch", "length")


def test_an_exported_program_has_the_interfaces_dynamic_axes() -> None:
    interface = GraphInterface((TensorSpec("x", "float32", ("batch", "length", 2)),), ())
    example = torch.zeros(2, 5, 2)
    program = torch.export.export(torch.nn.Linear(2, 3), (example,), dynamic_shapes=dynamic_shapes(interface)).module()
    for shape in ((1, 1, 2), (3, 7, 2)):
        assert program(torch.zeros(shape)).shape == (*shape[:2], 3)
