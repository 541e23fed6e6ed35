import pytest
import torch
from torch.backends import cuda, mkldnn

from ddslib.machine import rounding
from ddslib.machine.rounding import SINGLE, Rounding, fast_products
from ddslib.search.search import Search
from ddslib.search.settings import Fit
from ddslib.search.stored import SampleDictionary

FIT = Fit(iterations=1, step_size=0.01, positivity="projection", likelihood_weight=0.0, sparsity_weight=0.0)


def test_tensor_cores_are_used_for_as_long_as_asked_for():
    products = cuda.matmul
    before = products.fp32_precision
    with Rounding(tensor_cores=True).applied():
        assert products.fp32_precision == "tf32"
        with pytest.raises(KeyError), SINGLE.applied():
            assert products.fp32_precision == "ieee"
            raise KeyError
        assert products.fp32_precision == "tf32"
    assert products.fp32_precision == before


@pytest.mark.parametrize("shape", [(300, 400, 500), (7, 30, 200, 40), (60, 5, 64, 512)])
def test_fast_products_keep_the_digits_of_single_precision(shape, generator):
    *stack, rows, inner, columns = shape
    A = torch.randn(*stack, rows, inner, generator=generator)
    B = torch.randn(*stack, columns, inner, generator=generator).mT
    with fast_products():
        error = (A @ B - A.double() @ B.double()).abs().max()
    assert error < 1e-6 * inner  # with factors in bfloat16 it is some hundredths


@pytest.mark.parametrize(("keeps", "expected"), [(True, "bf16"), (False, mkldnn.matmul.fp32_precision)])
def test_products_are_handed_over_only_where_digits_are_kept(keeps, expected, monkeypatch):
    monkeypatch.setattr(rounding, "_onednn_keeps_digits", lambda: keeps)
    before = mkldnn.matmul.fp32_precision
    with pytest.raises(KeyError), fast_products():
        assert mkldnn.matmul.fp32_precision == expected
        raise KeyError
    assert mkldnn.matmul.fp32_precision == before


def test_a_cpu_without_wide_registers_does_without(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: False)
    assert not rounding._onednn_keeps_digits.__wrapped__()  # past the cache


def test_a_search_uses_fast_products(generator, monkeypatch):
    monkeypatch.setattr(rounding, "_onednn_keeps_digits", lambda: True)
    seen = []

    class Noting(SampleDictionary):
        def mix(self, H):
            seen.append(mkldnn.matmul.fp32_precision)
            return super().mix(H)

    samples, X = torch.rand(20, 8, generator=generator), torch.rand(8, 3, generator=generator)
    search = Search(X, Noting(samples, torch.arange(20) % 4, 4), FIT)
    search.iterate()
    search.result()
    assert set(seen) == {"bf16"}
