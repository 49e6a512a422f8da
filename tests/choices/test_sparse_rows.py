"""The network and the corruption for rows that are almost all zero."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from isthmus import Autoencoder
from isthmus.choices import Context, DropEntries, SparseRows
from isthmus.choices.sparse_rows import SparseLinear, UnitRows


def sparse_rows() -> torch.Tensor:
    x = torch.zeros(5, 12)
    x[0, [1, 3]], x[1, 0], x[3, [2, 5, 11]] = torch.tensor([1.0, 2.0]), -1.0, torch.tensor([0.5, 1.0, 4.0])
    return x


def test_the_sparse_layer_gives_what_a_dense_one_gives_and_the_same_gradients() -> None:
    torch.manual_seed(0)
    dense = nn.Linear(12, 4)
    layer, x = SparseLinear(dense), sparse_rows()
    torch.testing.assert_close(layer(x), dense(x))
    layer(x).square().sum().backward()
    dense(x).square().sum().backward()
    assert dense.weight.grad is not None
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad.t(), dense.weight.grad)
    torch.testing.assert_close(layer.bias.grad, dense.bias.grad)


def test_the_sparse_layer_has_a_gradient_by_its_input_where_one_is_asked_for() -> None:
    layer, x = SparseLinear(nn.Linear(12, 4)), sparse_rows().requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0], layer.weight.detach().sum(1))


def test_the_length_of_a_history_does_not_matter_where_rows_are_normalised() -> None:
    context = Context((12,), code_size=3)
    encoder, _ = SparseRows((6,)).build(context, code_width=3, output_width=12)
    raw, _ = SparseRows((6,), normalize=False).build(context, code_width=3, output_width=12)
    x = sparse_rows()
    torch.testing.assert_close(encoder(x), encoder(7 * x))
    assert not torch.allclose(raw(x), raw(7 * x))
    assert torch.equal(UnitRows()(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_tied_sparse_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="SparseRows: tied=True must be False"):
        Autoencoder(2, network=SparseRows((3,), tied=True)).fit(sparse_rows().numpy())


def test_dropped_entries_are_zero_and_the_rest_keeps_the_sum() -> None:
    x = torch.ones(200, 50)
    kept = DropEntries(0.25).corrupt(x, torch.Generator().manual_seed(0))
    assert kept.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(DropEntries(0.0).corrupt(x, torch.Generator()), x)
    assert "fraction=1.0 must be a number in [0, 1)" in DropEntries(1.0).mistakes()[0]
