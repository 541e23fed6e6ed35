"""What every method has to pass, those of other packages too: the contract as a list of checks.

``for check in CHECKS: check(method)``; one that fails raises an AssertionError.  The methods' dictionaries are made of
an untrained flow and of random frames.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ddslib.config import Sizes
from ddslib.machine.device import devices, policy
from ddslib.methods.examples import example
from ddslib.methods.method import Method
from ddslib.search.dictionary import Dictionary
from ddslib.search.search import Decomposition, Search, decompose

SIZES = Sizes(T=5, K=12, N=3, C=2, M=9, F=2, hidden=(8,))
DOUBLE = {"dtype": torch.float64}
STEP = 1e-6  # of differences


def _made(
    method: Method, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64, **limits: int
) -> Dictionary:
    """The method's dictionary with codes that are not at their modes, decoded."""
    dictionary = example(method, SIZES, replace(policy(torch.device(device)), **limits), dtype=dtype)
    if dictionary.codes is not None:
        draws = torch.Generator(device).manual_seed(1)
        dictionary.codes.copy_(0.3 * torch.randn(dictionary.codes.shape, dtype=dtype, device=device, generator=draws))
    dictionary.refresh()
    return dictionary


def _mixture(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(SIZES.K, SIZES.T, dtype=dtype, device=device, generator=torch.Generator(device).manual_seed(2))


def _draws(device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(3)


def _search(method: Method, X: Tensor, dictionary: Dictionary) -> Decomposition:
    return decompose(X, dictionary, method.brief(SIZES.C), generator=_draws(X.device))


def check_shapes(method: Method) -> None:
    """The linear operators are of one matrix W, whose entries belong to sources."""
    dictionary, X = _made(method), _mixture()
    H = dictionary.start(X, _draws())
    entries, frames = H.shape
    assert frames == SIZES.T and entries % SIZES.N == 0
    assert dictionary.mix(H).shape == X.shape
    assert dictionary.correlate(X).shape == H.shape
    assert dictionary.attribute(H).shape == (SIZES.N, SIZES.T)
    assert all(dictionary.entries(source).shape[0] == SIZES.K for source in range(SIZES.N))
    assert dictionary.penalty(H).value.shape == ()
    torch.testing.assert_close((dictionary.mix(H) * X).sum(), (H * dictionary.correlate(X)).sum())
    parts = torch.stack([dictionary.part(H, source) for source in range(SIZES.N)])
    torch.testing.assert_close(parts.sum(dim=0), dictionary.mix(H))
    own = dictionary.spread(
        torch.eye(SIZES.N, SIZES.T, **DOUBLE)[:, :1].expand(-1, frames)
    )  # those of the first source
    torch.testing.assert_close(dictionary.mix(H * own), parts[0])


def check_gradients(method: Method) -> None:
    """Of J: for H those of automatic differentiation, for codes those of differences."""
    dictionary, X = _made(method), _mixture()
    settings = replace(method.brief(SIZES.C), likelihood_weight=0.1, sparsity_weight=0.01)
    objective = settings.objective(X, dictionary.domain)
    H = (dictionary.start(X, _draws()) + 0.1).requires_grad_()

    def cost() -> Tensor:
        return objective.cost(dictionary.mix(H), H, dictionary).total

    (by_autograd,) = torch.autograd.grad(cost(), H)
    H = H.detach()
    torch.testing.assert_close(objective.activations_gradient(dictionary.mix(H), H, dictionary), by_autograd)
    if dictionary.codes is None:
        return
    direction = torch.randn(dictionary.codes.shape, **DOUBLE, generator=_draws())
    (gradient,), costs = objective.gradients(dictionary.mix(H), H, dictionary), []
    for sign in (1, -2):
        dictionary.codes.add_(sign * STEP * direction)
        dictionary.refresh()
        costs.append(cost())
    slope = (costs[0] - costs[1]) / (2 * STEP)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-4, atol=1e-6)


def check_blocks(method: Method) -> None:
    """Work in small pieces, with nothing kept between them, finds what work as a whole finds."""
    pieces = {"codes_at_a_time": 2, "samples_at_a_time": 4, "gradient_bytes": 0}
    few, whole = (_search(method, _mixture(), _made(method, **limits)) for limits in (pieces, {}))
    torch.testing.assert_close(few.cost, whole.cost)
    torch.testing.assert_close(few.A, whole.A)


def check_resuming(method: Method) -> None:
    """A search that pauses finds what one without a pause finds, and what was found can be taken up from its codes."""
    dictionary, X, settings = _made(method), _mixture(), method.brief(SIZES.C)
    whole = _search(method, X, _made(method))
    paused = Search(X, dictionary, settings, generator=_draws())
    for _ in range(settings.iterations):
        paused.iterate()
    torch.testing.assert_close(paused.result().A, whole.A, rtol=0, atol=0)
    again = _made(method)
    if again.codes is not None:
        again.codes.copy_(whole.codes)
        again.refresh()
    torch.testing.assert_close(again.mix(whole.H), whole.X_hat)
    torch.testing.assert_close(again.attribute(whole.H), whole.A)


def check_device_and_dtype(method: Method) -> None:
    """All that comes out is where X is, and of its type."""
    for device in devices():
        for dtype in (torch.float32, torch.float64):
            X = _mixture(device, dtype)
            found = _search(method, X, _made(method, device, dtype))
            for tensor in filter(lambda part: part is not None, (found.H, found.A, found.X_hat, found.codes)):
                assert (tensor.device, tensor.dtype) == (X.device, dtype)


def check_start(method: Method) -> None:
    """Activations start finite and positive, and are the same for the same draws; or fitted, if settings can say so."""
    dictionary, X = _made(method), _mixture()
    H = dictionary.start(X, _draws())
    assert torch.isfinite(H).all() and (H >= 0).all() and H.any()
    assert torch.equal(H, dictionary.start(X, _draws()))
    if hasattr(method.settings, "start"):
        fitted = Search(X, dictionary, replace(method.brief(SIZES.C), start="fitted"), generator=_draws())
        fitted.iterate()
        assert fitted.result().H.shape == H.shape


def check_silence(method: Method) -> None:
    """Silence is decomposed, too: nothing that is found is infinite or negative."""
    found = _search(method, torch.zeros_like(_mixture()), _made(method))
    assert torch.isfinite(found.cost).all()
    assert torch.isfinite(found.A).all() and (found.A >= 0).all()


CHECKS = (
    check_shapes, check_gradients, check_blocks, check_resuming, check_device_and_dtype, check_start, check_silence
)  # fmt: skip
